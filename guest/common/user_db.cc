#include "common/user_db.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>

namespace sm::guest {

namespace {

constexpr std::size_t kMaxGroups = 65536;  // the kernel's NGROUPS_MAX

struct PasswdEntry {
  std::string_view name;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::string_view home;
};

struct GroupEntry {
  std::string_view name;
  std::uint32_t gid = 0;
  std::string_view members;
};

// All digits and at most 2^31-1, the range the usual container runtimes accept.
std::optional<std::uint32_t> parse_id(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return {};
  if (value > 0x7fff'ffff) return {};
  return value;
}

bool all_digits(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

template <std::size_t N>
std::array<std::string_view, N> split_fields(std::string_view line) {
  std::array<std::string_view, N> fields;
  for (std::size_t i = 0; i < N; ++i) {
    const auto colon = line.find(':');
    fields[i] = line.substr(0, colon);
    if (colon == std::string_view::npos) break;
    line.remove_prefix(colon + 1);
  }
  return fields;
}

// Calls f(line) for each line until it returns false.
template <class F>
void each_line(std::string_view text, F&& f) {
  while (!text.empty()) {
    const auto end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty() || line.find('\0') != std::string_view::npos) continue;
    if (!f(line)) return;
  }
}

// A malformed line is no entry: a missing or unreadable number must never mean root.
std::optional<PasswdEntry> parse_passwd_line(std::string_view line) {
  const auto fields = split_fields<7>(line);
  const auto uid = parse_id(fields[2]), gid = parse_id(fields[3]);
  if (fields[0].empty() || !uid || !gid) return {};
  return PasswdEntry{fields[0], *uid, *gid, fields[5]};
}

std::optional<GroupEntry> parse_group_line(std::string_view line) {
  const auto fields = split_fields<4>(line);
  const auto gid = parse_id(fields[2]);
  if (fields[0].empty() || !gid) return {};
  return GroupEntry{fields[0], *gid, fields[3]};
}

bool lists_member(std::string_view members, std::string_view name) {
  while (!members.empty()) {
    const auto comma = members.find(',');
    if (members.substr(0, comma) == name) return true;
    if (comma == std::string_view::npos) return false;
    members.remove_prefix(comma + 1);
  }
  return false;
}

std::optional<PasswdEntry> find_user(std::string_view passwd, std::string_view name,
                                     std::optional<std::uint32_t> uid) {
  std::optional<PasswdEntry> found;
  each_line(passwd, [&](std::string_view line) {
    const auto entry = parse_passwd_line(line);
    if (entry && (uid ? entry->uid == *uid : entry->name == name)) found = entry;
    return !found;
  });
  return found;
}

Result<std::uint32_t> find_group(std::string_view group, std::string_view name) {
  const auto gid = parse_id(name);
  if (gid) return *gid;
  std::optional<std::uint32_t> found;
  each_line(group, [&](std::string_view line) {
    const auto entry = parse_group_line(line);
    if (entry && entry->name == name) found = entry->gid;
    return !found;
  });
  if (found) return *found;
  return fail(Code::kNotFound, all_digits(name)
                                   ? "group id " + std::string(name) + " is out of range"
                                   : "unable to find group " + std::string(name) +
                                         ": no matching entries in group file");
}

std::vector<gid_t> groups_of(std::string_view group, std::string_view user) {
  std::vector<gid_t> groups;
  each_line(group, [&](std::string_view line) {
    const auto entry = parse_group_line(line);
    if (entry && lists_member(entry->members, user)) groups.push_back(entry->gid);
    return groups.size() < kMaxGroups;
  });
  return groups;
}

void finish_groups(UserIds& ids) {
  ids.groups.insert(ids.groups.begin(), ids.gid);
  std::vector<gid_t> unique;
  std::vector<gid_t> seen;
  for (const gid_t gid : ids.groups) {
    const auto at = std::lower_bound(seen.begin(), seen.end(), gid);
    if (at != seen.end() && *at == gid) continue;
    seen.insert(at, gid);
    unique.push_back(gid);
  }
  if (unique.size() > kMaxGroups) unique.resize(kMaxGroups);
  ids.groups = std::move(unique);
}

}  // namespace

Result<UserIds> resolve_user(std::string_view spec, std::string_view passwd,
                             std::string_view group) {
  const auto colon = spec.find(':');
  const std::string_view user_part = spec.substr(0, colon);
  const std::string_view group_part =
      colon == std::string_view::npos ? std::string_view{} : spec.substr(colon + 1);

  const bool numeric = user_part.empty() || all_digits(user_part);
  const auto uid = user_part.empty() ? std::optional<std::uint32_t>(0) : parse_id(user_part);
  if (numeric && !uid) {
    return fail(Code::kNotFound, "user id " + std::string(user_part) + " is out of range");
  }
  UserIds ids;
  const auto entry = find_user(passwd, user_part, numeric ? uid : std::nullopt);
  if (entry) {
    ids.uid = entry->uid;
    ids.gid = entry->gid;
    if (!entry->home.empty()) ids.home = entry->home;
  } else if (numeric) {
    ids.uid = *uid;
  } else {
    return fail(Code::kNotFound, "unable to find user " + std::string(user_part) +
                                     ": no matching entries in passwd file");
  }
  if (!group_part.empty()) {
    ids.gid = SM_TRY(find_group(group, group_part));
  } else if (entry) {
    ids.groups = groups_of(group, entry->name);
  }
  finish_groups(ids);
  return ids;
}

Status add_groups(UserIds& ids, const std::vector<std::string>& words, std::string_view group) {
  for (const std::string& word : words) ids.groups.push_back(SM_TRY(find_group(group, word)));
  finish_groups(ids);
  return {};
}

std::map<uid_t, std::string> user_names(std::string_view passwd) {
  std::map<uid_t, std::string> out;
  each_line(passwd, [&out](std::string_view line) {
    if (const auto entry = parse_passwd_line(line)) out.try_emplace(entry->uid, entry->name);
    return true;
  });
  return out;
}

}  // namespace sm::guest
