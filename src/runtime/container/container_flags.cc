#include "runtime/container/container_flags.h"

#include <algorithm>

#include "runtime/container/flag_values.h"
#include "runtime/run_options.h"

namespace sm {

namespace {

constexpr std::uint64_t kMinShm = 4096;
constexpr std::uint64_t kMaxShm = 1ull << 40;

// -1 is how users write "none".
std::optional<std::uint64_t> parse_limit(std::string_view text) {
  if (text == "-1") return agent::kUnlimited;
  return parse_number<std::uint64_t>(text);
}

// A later value takes the place of an earlier one for the same thing.
template <class T, class Same>
void put_last(std::vector<T>& items, T item, Same&& same) {
  std::erase_if(items, [&](const T& other) { return same(other, item); });
  items.push_back(std::move(item));
}

Status take_resolver(const ContainerFlags& flags, agent::MachineSettings& out) {
  for (const std::string& address : flags.dns) {
    if (!is_ip_address(address)) {
      return bad_flag("--dns", address, "not an IPv4 or IPv6 address",
                      "give the name server's address, such as 1.1.1.1");
    }
  }
  for (const std::string& domain : flags.dns_search) {
    if (!agent::is_search_domain(domain)) {
      return bad_flag("--dns-search", domain, "not a domain",
                      "give a domain such as example.org, or . for none");
    }
  }
  for (const std::string& option : flags.dns_option) {
    if (!agent::is_resolver_option(option)) {
      return bad_flag("--dns-option", option, "not an option of resolv.conf(5)",
                      "give one word such as ndots:2");
    }
  }
  out.dns = flags.dns;
  out.dns_search = flags.dns_search;
  out.dns_options = flags.dns_option;
  return {};
}

Status take_lists(const ContainerFlags& flags, agent::MachineSettings& out) {
  for (const std::string& text : flags.add_host) out.hosts.push_back(SM_TRY(parse_add_host(text)));
  for (const std::string& text : flags.tmpfs) {
    put_last(out.tmpfs, SM_TRY(parse_tmpfs(text)),
             [](const auto& a, const auto& b) { return a.path == b.path; });
  }
  for (const std::string& text : flags.sysctl) {
    put_last(out.sysctls, SM_TRY(parse_sysctl(text)),
             [](const auto& a, const auto& b) { return a.first == b.first; });
  }
  return {};
}

Status take_shm_size(const std::string& text, agent::MachineSettings& out) {
  if (text.empty()) return {};
  const auto bytes = parse_byte_count(text);
  if (!bytes || *bytes < kMinShm || *bytes > kMaxShm) {
    return bad_flag("--shm-size", text, "not a size of /dev/shm between 4k and 1024g",
                    "write a number with b, k, m or g, such as 128m");
  }
  out.shm_bytes = *bytes;
  return {};
}

Status take_pids_limit(const std::string& text, agent::MachineSettings& out) {
  if (text.empty()) return {};
  const auto limit = parse_limit(text);
  if (!limit || (*limit > agent::kMaxPids && *limit != agent::kUnlimited)) {
    return bad_flag("--pids-limit", text, "not a number of processes up to 4194304",
                    "give a number such as 100, or -1 for no limit");
  }
  out.max_pids = *limit == agent::kUnlimited ? 0 : *limit;
  return {};
}

Status take_machine(const ContainerFlags& flags, agent::MachineSettings& out) {
  SM_TRY_STATUS(take_resolver(flags, out));
  SM_TRY_STATUS(take_lists(flags, out));
  SM_TRY_STATUS(take_shm_size(flags.shm_size, out));
  SM_TRY_STATUS(take_pids_limit(flags.pids_limit, out));
  if (!flags.domainname.empty() && !is_hostname(flags.domainname)) {
    return bad_flag("--domainname", flags.domainname, "not a domain name",
                    "use 1 to 64 letters, digits, '.', '-', '_'");
  }
  out.domainname = flags.domainname;
  out.read_only_root = flags.read_only;
  return {};
}

std::optional<bool> parse_switch(std::string_view text, std::string_view name) {
  if (text == name) return true;
  if (!text.starts_with(name) || (text[name.size()] != '=' && text[name.size()] != ':')) return {};
  const std::string_view value = text.substr(name.size() + 1);
  if (value == "true" || value == "1") return true;
  if (value == "false" || value == "0") return false;
  return {};
}

// What switches off a filter or label that there is none of here asks for nothing.
bool is_off_already(std::string_view text) {
  constexpr std::string_view kOff[] = {"seccomp=unconfined",  "seccomp:unconfined",
                                       "apparmor=unconfined", "apparmor:unconfined",
                                       "label=disable",       "label:disable"};
  return std::find(std::begin(kOff), std::end(kOff), text) != std::end(kOff);
}

Status take_security(const ContainerFlags& flags, agent::ProcessSettings& out) {
  for (const std::string& text : flags.security_opt) {
    if (is_off_already(text)) continue;
    const auto value = parse_switch(text, "no-new-privileges");
    if (!value) {
      return fail(Code::kUnsupported, "--security-opt " + text + " is not known here",
                  "use no-new-privileges; a VM has no seccomp, AppArmor or SELinux profile");
    }
    out.no_new_privileges = *value;
  }
  return {};
}

Status take_process(const ContainerFlags& flags, agent::ProcessSettings& out) {
  out.capabilities = SM_TRY(parse_capabilities(flags.cap_add, flags.cap_drop));
  for (const std::string& text : flags.ulimit) {
    put_last(out.ulimits, SM_TRY(parse_ulimit(text)),
             [](const auto& a, const auto& b) { return a.resource == b.resource; });
  }
  for (const std::string& word : flags.group_add) {
    if (!agent::is_group_word(word)) {
      return bad_flag("--group-add", word, "not a group", "give the name or number of a group");
    }
  }
  out.groups = flags.group_add;
  SM_TRY_STATUS(take_security(flags, out));
  if (flags.oom_score_adj.empty()) return {};
  const auto score = parse_number<std::int32_t>(flags.oom_score_adj);
  if (!score || *score < -1000 || *score > 1000) {
    return bad_flag("--oom-score-adj", flags.oom_score_adj, "not a number from -1000 to 1000",
                    "give a number such as 500; -1000 spares the command");
  }
  out.oom_score_adj = *score;
  return {};
}

}  // namespace

Result<HostEntry> parse_add_host(const std::string& text) {
  constexpr const char* kRemedy = "write NAME:ADDRESS, such as db:10.0.0.7";
  const auto separator = text.find_first_of("=:");
  HostEntry entry;
  entry.name = text.substr(0, separator);
  if (separator != std::string::npos) entry.address = text.substr(separator + 1);
  if (entry.address == "host-gateway") {
    return fail(Code::kUnsupported, "--add-host " + text + ": a VM has no gateway to the host",
                "give an address instead of host-gateway");
  }
  if (entry.address.starts_with('[') && entry.address.ends_with(']')) {
    entry.address = entry.address.substr(1, entry.address.size() - 2);
  }
  if (!is_ip_address(entry.address)) {
    return bad_flag("--add-host", text, "no IPv4 or IPv6 address behind the name", kRemedy);
  }
  if (!is_host_entry(entry)) return bad_flag("--add-host", text, "not a host's name", kRemedy);
  return entry;
}

Result<agent::Ulimit> parse_ulimit(const std::string& text) {
  const auto equals = text.find('=');
  const std::string_view name = std::string_view(text).substr(0, equals);
  const std::string_view values =
      equals == std::string::npos ? std::string_view{} : std::string_view(text).substr(equals + 1);
  agent::Ulimit out;
  while (out.resource < agent::kResources &&
         (name.empty() || agent::resource_name(out.resource) != name)) {
    ++out.resource;
  }
  if (out.resource == agent::kResources) {
    return bad_flag("--ulimit", text, "there is no such limit",
                    "use NAME=SOFT[:HARD] with core, cpu, data, fsize, locks, memlock, msgqueue, "
                    "nice, nofile, nproc, rss, rtprio, rttime, sigpending or stack");
  }
  const auto colon = values.find(':');
  const auto soft = parse_limit(values.substr(0, colon));
  const auto hard = colon == std::string_view::npos ? soft : parse_limit(values.substr(colon + 1));
  if (!soft || !hard) {
    return bad_flag("--ulimit", text, "the limits are not numbers",
                    "write NAME=SOFT[:HARD], such as nofile=1024:2048; -1 is no limit");
  }
  if (*soft > *hard) {
    return bad_flag("--ulimit", text, "the soft limit is above the hard one",
                    "write NAME=SOFT:HARD with the smaller number first");
  }
  out.soft = *soft;
  out.hard = *hard;
  return out;
}

// As sysctl(8) reads names: the separator that comes first separates, the other one is part of a
// name (net.ipv4.conf.eth0/1.forwarding).
Result<std::pair<std::string, std::string>> parse_sysctl(const std::string& text) {
  const auto equals = text.find('=');
  std::string name = text.substr(0, equals);
  std::string value = equals == std::string::npos ? std::string() : text.substr(equals + 1);
  const auto separator = name.find_first_of("./");
  if (separator != std::string::npos && name[separator] == '.') {
    for (char& c : name) c = c == '.' ? '/' : c == '/' ? '.' : c;
  }
  if (!agent::is_sysctl_path(name) || !agent::is_sysctl_value(value)) {
    return bad_flag("--sysctl", text, "not a kernel setting and its value",
                    "write NAME=VALUE, such as net.core.somaxconn=1024");
  }
  return std::pair(std::move(name), std::move(value));
}

Result<std::optional<agent::ContainerSettings>> parse_container_flags(const ContainerFlags& flags) {
  agent::ContainerSettings settings;
  SM_TRY_STATUS(take_machine(flags, settings.machine));
  SM_TRY_STATUS(take_process(flags, settings.process));
  // What is left are the numbers of things.
  if (auto status = agent::check_container(settings); !status) {
    return fail(status.error().code(), status.error().cause(), "give fewer of them");
  }
  if (settings == agent::ContainerSettings{}) return std::nullopt;
  return settings;
}

}  // namespace sm
