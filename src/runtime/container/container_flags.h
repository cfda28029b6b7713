// The flags of `run` that act inside the guest, as they were typed, and what they mean for the
// guest (proto/container.h). Pure: whatever can be known to be wrong is refused before a VM starts.
// Errors are kInvalidArgument or kUnsupported and name the flag and its value.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "proto/container.h"

namespace sm {

struct ContainerFlags {
  std::vector<std::string> add_host;    // NAME:ADDRESS
  std::vector<std::string> dns;         // addresses
  std::vector<std::string> dns_search;  // domains; "." for none
  std::vector<std::string> dns_option;
  std::vector<std::string> tmpfs;         // PATH[:OPTIONS]
  std::vector<std::string> ulimit;        // NAME=SOFT[:HARD]
  std::vector<std::string> cap_add;       // names with or without CAP_, or ALL
  std::vector<std::string> cap_drop;      // the same
  std::vector<std::string> group_add;     // names or numbers
  std::vector<std::string> sysctl;        // NAME=VALUE
  std::vector<std::string> security_opt;  // no-new-privileges[=BOOL]
  std::string shm_size;                   // empty: not given; so with all below
  std::string oom_score_adj;
  std::string pids_limit;
  std::string domainname;
  bool read_only = false;
  bool init = false;  // there is an init process already
};

// Nothing when no flag asks for anything.
Result<std::optional<agent::ContainerSettings>> parse_container_flags(const ContainerFlags& flags);

// One value of each flag. Docker's syntax.
Result<HostEntry> parse_add_host(const std::string& text);
Result<agent::TmpfsMount> parse_tmpfs(const std::string& text);
Result<agent::Ulimit> parse_ulimit(const std::string& text);
Result<std::pair<std::string, std::string>> parse_sysctl(const std::string& text);
// The set of capabilities that programs may have. Without either list: nothing, which means all.
Result<std::optional<std::uint64_t>> parse_capabilities(const std::vector<std::string>& add,
                                                        const std::vector<std::string>& drop);

}  // namespace sm
