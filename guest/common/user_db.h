// OCI user strings resolved against the image's own passwd and group files. Pure functions over
// text: no NSS, no getpwnam. The rules are in docs/reference/agent-protocol.md, "User".
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sm::guest {

inline constexpr std::size_t kMaxUserFile = 8u << 20;

struct UserIds {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary, the primary one among them
  std::string home = "/";
};

// `spec` is "name|uid[:group|gid]", empty for root. kNotFound when a name has no entry.
Result<UserIds> resolve_user(std::string_view spec, std::string_view passwd,
                             std::string_view group);

// Adds groups, each a name or a number, to the supplementary ones. kNotFound when a name has no
// entry.
Status add_groups(UserIds& ids, const std::vector<std::string>& words, std::string_view group);

// The first name of each number.
std::map<uid_t, std::string> user_names(std::string_view passwd);

}  // namespace sm::guest
