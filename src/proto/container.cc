#include "proto/container.h"

#include <algorithm>
#include <array>

namespace sm::agent {

namespace {

constexpr std::uint32_t kHasCapabilities = 1, kNoNewPrivileges = 2, kReadOnlyRoot = 4;
constexpr std::uint32_t kAllBits = kHasCapabilities | kNoNewPrivileges | kReadOnlyRoot;
constexpr std::size_t kMaxTmpfsPath = 4096;
constexpr std::size_t kMaxGroupName = 256;
constexpr std::size_t kMaxOptionWord = 64;
constexpr std::int32_t kMaxOomScore = 1000;
constexpr std::uint64_t kMaxShm = 1ull << 50;

// True when no part between slashes is empty, "." or "..".
bool has_plain_parts(std::string_view path) {
  for (;;) {
    const auto slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

bool is_tmpfs(const TmpfsMount& mount) {
  const bool options = mount.options.empty() || is_name(mount.options, "=,:%._-", kMaxTmpfsOptions);
  return is_tmpfs_path(mount.path) && (mount.flags & ~kAllTmpfsFlags) == 0 && options;
}

bool is_sysctl(const std::pair<std::string, std::string>& setting) {
  return is_sysctl_path(setting.first) && is_sysctl_value(setting.second);
}

bool are_ulimits(const std::vector<Ulimit>& ulimits) {
  std::uint32_t seen = 0;
  for (const Ulimit& u : ulimits) {
    if (u.resource >= kResources || u.soft > u.hard || (seen >> u.resource & 1) != 0) return false;
    seen |= 1u << u.resource;
  }
  return true;
}

template <class T, class F>
bool all_of(const std::vector<T>& items, std::size_t limit, F&& rule) {
  return items.size() <= limit && std::all_of(items.begin(), items.end(), rule);
}

tl::unexpected<Error> bad(const char* what) {
  return fail(Code::kInvalidArgument, std::string("container settings: ") + what);
}

Status check_process(const ProcessSettings& s) {
  if (s.capabilities && (*s.capabilities & ~kAllCapabilities) != 0) {
    return bad("no such capability");
  }
  if (s.oom_score_adj < -kMaxOomScore || s.oom_score_adj > kMaxOomScore) {
    return bad("the score for the out-of-memory killer must be -1000 to 1000");
  }
  if (!are_ulimits(s.ulimits)) {
    return bad("limits must name a resource once, with a soft limit up to the hard one");
  }
  if (!all_of(s.groups, kMaxAddedGroups, is_group_word)) {
    return bad("groups must be at most 1024 names or numbers");
  }
  return {};
}

Status check_machine(const MachineSettings& s) {
  if (s.shm_bytes > kMaxShm) return bad("/dev/shm cannot have that size");
  if (s.max_pids > kMaxPids) return bad("there are at most 4194304 processes");
  if (!s.domainname.empty() && !is_hostname(s.domainname)) {
    return bad("the domain name must be 1 to 64 letters, digits, '.', '-', '_'");
  }
  if (!all_of(s.hosts, kMaxHostEntries, is_host_entry)) {
    return bad("hosts must be at most 1024 pairs of an address and a name");
  }
  if (!all_of(s.dns, kMaxNameServers, is_ip_address)) {
    return bad("name servers must be at most 16 IPv4 or IPv6 addresses");
  }
  if (!all_of(s.dns_search, kMaxResolverWords, is_search_domain)) {
    return bad("search domains must be at most 64 names");
  }
  if (!all_of(s.dns_options, kMaxResolverWords, is_resolver_option)) {
    return bad("resolver options must be at most 64 words such as ndots:2");
  }
  if (!all_of(s.tmpfs, kMaxTmpfs, is_tmpfs)) {
    return bad("tmpfs mounts must be at most 64 absolute paths outside /proc with their options");
  }
  if (!all_of(s.sysctls, kMaxSysctls, is_sysctl)) {
    return bad("kernel settings must be at most 256 names below /proc/sys with a value");
  }
  return {};
}

template <class T, class F>
void put_list(ByteWriter& w, const std::vector<T>& items, F&& put) {
  w.put(static_cast<std::uint32_t>(items.size()));
  for (const T& item : items) put(item);
}

void put_words(ByteWriter& w, const std::vector<std::string>& words) {
  put_list(w, words, [&](const std::string& word) { w.put_string(word); });
}

// The items are taken one by one, so a count beyond the payload allocates nothing.
template <class F>
bool take_list(ByteReader& r, std::size_t limit, F&& take) {
  const auto count = r.take<std::uint32_t>();
  if (!count || *count > limit) return false;
  for (std::uint32_t i = 0; i < *count; ++i) {
    if (!take()) return false;
  }
  return true;
}

bool take_text(ByteReader& r, std::size_t limit, std::string& out) {
  const auto text = r.take_string(limit);
  if (!text) return false;
  out = *text;
  return true;
}

bool take_words(ByteReader& r, std::size_t count, std::size_t limit,
                std::vector<std::string>& out) {
  return take_list(r, count, [&] { return take_text(r, limit, out.emplace_back()); });
}

bool take_process(ByteReader& r, ProcessSettings& s) {
  const auto limit = [&] {
    const auto resource = r.take<std::uint8_t>();
    const auto soft = r.take<std::uint64_t>();
    const auto hard = r.take<std::uint64_t>();
    if (hard) s.ulimits.push_back({*resource, *soft, *hard});
    return hard.has_value();
  };
  return take_list(r, kResources, limit) && take_words(r, kMaxAddedGroups, kMaxGroupName, s.groups);
}

bool take_machine(ByteReader& r, MachineSettings& s) {
  const auto host = [&] {
    HostEntry& entry = s.hosts.emplace_back();
    return take_text(r, kMaxHostName, entry.address) && take_text(r, kMaxHostName, entry.name);
  };
  const auto tmpfs = [&] {
    TmpfsMount& mount = s.tmpfs.emplace_back();
    if (!take_text(r, kMaxTmpfsPath, mount.path)) return false;
    const auto flags = r.take<std::uint32_t>();
    mount.flags = flags.value_or(0);
    return take_text(r, kMaxTmpfsOptions, mount.options);
  };
  const auto sysctl = [&] {
    auto& [name, value] = s.sysctls.emplace_back();
    return take_text(r, kMaxSysctlName, name) && take_text(r, kMaxSysctlValue, value);
  };
  return take_text(r, kMaxHostname, s.domainname) && take_list(r, kMaxHostEntries, host) &&
         take_words(r, kMaxNameServers, kMaxHostname, s.dns) &&
         take_words(r, kMaxResolverWords, kMaxHostName, s.dns_search) &&
         take_words(r, kMaxResolverWords, kMaxOptionWord, s.dns_options) &&
         take_list(r, kMaxTmpfs, tmpfs) && take_list(r, kMaxSysctls, sysctl);
}

}  // namespace

std::string_view resource_name(std::uint8_t resource) {
  constexpr std::array<std::string_view, kResources> kNames = {
      "cpu",     "fsize", "data",  "stack",      "core",     "rss",  "nproc",  "nofile",
      "memlock", "",      "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};
  return resource < kResources ? kNames[resource] : std::string_view{};
}

bool is_search_domain(std::string_view text) {
  return text == "." || (is_name(text, ".-_", kMaxHostName) && text[0] != '.');
}

bool is_resolver_option(std::string_view text) { return is_name(text, ":.-_", kMaxOptionWord); }

bool is_tmpfs_path(std::string_view text) {
  if (text.size() < 2 || text.size() > kMaxTmpfsPath || text[0] != '/') return false;
  if (text.find('\0') != std::string_view::npos || !has_plain_parts(text.substr(1))) return false;
  return text != "/proc" && !text.starts_with("/proc/");
}

bool is_sysctl_path(std::string_view text) {
  return is_name(text, "/._-:@", kMaxSysctlName) && has_plain_parts(text);
}

bool is_sysctl_value(std::string_view text) {
  return !text.empty() && text.size() <= kMaxSysctlValue &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return c == '\t' || (static_cast<unsigned char>(c) >= ' ' && c != '\x7f');
         });
}

bool is_group_word(std::string_view text) {
  return !text.empty() && text.size() <= kMaxGroupName &&
         std::none_of(text.begin(), text.end(),
                      [](char c) { return c == '\0' || c == ':' || c == ',' || c == '\n'; });
}

Status check_container(const ContainerSettings& settings) {
  SM_TRY_STATUS(check_process(settings.process));
  return check_machine(settings.machine);
}

void put_container(ByteWriter& w, const ContainerSettings& settings) {
  const ProcessSettings& p = settings.process;
  const MachineSettings& m = settings.machine;
  w.put((p.capabilities ? kHasCapabilities : 0u) | (p.no_new_privileges ? kNoNewPrivileges : 0u) |
        (m.read_only_root ? kReadOnlyRoot : 0u));
  w.put(p.capabilities.value_or(0));
  w.put(static_cast<std::uint32_t>(p.oom_score_adj));
  w.put(m.shm_bytes);
  w.put(m.max_pids);
  put_list(w, p.ulimits, [&](const Ulimit& u) {
    w.put(u.resource);
    w.put(u.soft);
    w.put(u.hard);
  });
  put_words(w, p.groups);
  w.put_string(m.domainname);
  put_list(w, m.hosts, [&](const HostEntry& entry) {
    w.put_string(entry.address);
    w.put_string(entry.name);
  });
  for (const auto* words : {&m.dns, &m.dns_search, &m.dns_options}) put_words(w, *words);
  put_list(w, m.tmpfs, [&](const TmpfsMount& mount) {
    w.put_string(mount.path);
    w.put(mount.flags);
    w.put_string(mount.options);
  });
  put_list(w, m.sysctls, [&](const auto& setting) {
    w.put_string(setting.first);
    w.put_string(setting.second);
  });
}

Result<ContainerSettings> take_container(ByteReader& r) {
  const auto malformed = [] {
    return fail(Code::kCorrupt, "agent protocol: malformed container settings");
  };
  ContainerSettings settings;
  const auto bits = r.take<std::uint32_t>();
  const auto capabilities = r.take<std::uint64_t>();
  const auto oom_score_adj = r.take<std::uint32_t>();
  const auto shm_bytes = r.take<std::uint64_t>();
  const auto max_pids = r.take<std::uint64_t>();
  if (!max_pids || (*bits & ~kAllBits) != 0) return malformed();
  const bool has_capabilities = (*bits & kHasCapabilities) != 0;
  if (!has_capabilities && *capabilities != 0) return malformed();
  if (has_capabilities) settings.process.capabilities = *capabilities;
  settings.process.no_new_privileges = (*bits & kNoNewPrivileges) != 0;
  settings.process.oom_score_adj = static_cast<std::int32_t>(*oom_score_adj);
  settings.machine.read_only_root = (*bits & kReadOnlyRoot) != 0;
  settings.machine.shm_bytes = *shm_bytes;
  settings.machine.max_pids = *max_pids;
  if (!take_process(r, settings.process) || !take_machine(r, settings.machine)) return malformed();
  SM_TRY_STATUS(check_container(settings));
  return settings;
}

}  // namespace sm::agent
