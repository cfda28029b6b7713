// --cap-add and --cap-drop.

#include <algorithm>
#include <array>
#include <cctype>

#include "runtime/container/container_flags.h"
#include "runtime/container/flag_values.h"

namespace sm {

namespace {

// In the order of their numbers; capabilities(7).
constexpr std::array<std::string_view, agent::kLastCapability + 1> kNames = {"CHOWN",
                                                                             "DAC_OVERRIDE",
                                                                             "DAC_READ_SEARCH",
                                                                             "FOWNER",
                                                                             "FSETID",
                                                                             "KILL",
                                                                             "SETGID",
                                                                             "SETUID",
                                                                             "SETPCAP",
                                                                             "LINUX_IMMUTABLE",
                                                                             "NET_BIND_SERVICE",
                                                                             "NET_BROADCAST",
                                                                             "NET_ADMIN",
                                                                             "NET_RAW",
                                                                             "IPC_LOCK",
                                                                             "IPC_OWNER",
                                                                             "SYS_MODULE",
                                                                             "SYS_RAWIO",
                                                                             "SYS_CHROOT",
                                                                             "SYS_PTRACE",
                                                                             "SYS_PACCT",
                                                                             "SYS_ADMIN",
                                                                             "SYS_BOOT",
                                                                             "SYS_NICE",
                                                                             "SYS_RESOURCE",
                                                                             "SYS_TIME",
                                                                             "SYS_TTY_CONFIG",
                                                                             "MKNOD",
                                                                             "LEASE",
                                                                             "AUDIT_WRITE",
                                                                             "AUDIT_CONTROL",
                                                                             "SETFCAP",
                                                                             "MAC_OVERRIDE",
                                                                             "MAC_ADMIN",
                                                                             "SYSLOG",
                                                                             "WAKE_ALARM",
                                                                             "BLOCK_SUSPEND",
                                                                             "AUDIT_READ",
                                                                             "PERFMON",
                                                                             "BPF",
                                                                             "CHECKPOINT_RESTORE"};

struct Names {
  bool all = false;
  std::uint64_t set = 0;
};

Result<Names> parse_names(std::string_view flag, const std::vector<std::string>& words) {
  Names out;
  for (const std::string& word : words) {
    std::string name = word;
    for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    if (name == "ALL") {
      out.all = true;
      continue;
    }
    const auto start = name.starts_with("CAP_") ? 4u : 0u;
    const auto at = std::find(kNames.begin(), kNames.end(), std::string_view(name).substr(start));
    if (at == kNames.end()) {
      return bad_flag(flag, word, "there is no such capability",
                      "use a name of capabilities(7) such as NET_ADMIN, or ALL");
    }
    out.set |= 1ull << (at - kNames.begin());
  }
  return out;
}

}  // namespace

// Docker's rules: with ALL added, all but what is dropped; with ALL dropped, only what is added;
// else what is added stays even when it is dropped as well.
Result<std::optional<std::uint64_t>> parse_capabilities(const std::vector<std::string>& add,
                                                        const std::vector<std::string>& drop) {
  const Names added = SM_TRY(parse_names("--cap-add", add));
  const Names dropped = SM_TRY(parse_names("--cap-drop", drop));
  if (add.empty() && drop.empty()) return std::nullopt;
  if (added.all) return agent::kAllCapabilities & ~dropped.set;
  if (dropped.all) return added.set;
  return (agent::kAllCapabilities & ~dropped.set) | added.set;
}

}  // namespace sm
