// What the user of a container may ask of the inside of its machine beyond a command, a user and an
// environment: part of the exec request of the main workload (proto/agent.h). None of it is known
// when a machine boots or is restored, so both take it alike.
// docs/reference/agent-protocol.md, "Container settings". Freestanding: usable in guest/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "proto/names.h"

namespace sm::agent {

inline constexpr int kLastCapability = 40;  // CAP_CHECKPOINT_RESTORE
inline constexpr std::uint64_t kAllCapabilities = (1ull << (kLastCapability + 1)) - 1;
inline constexpr std::uint8_t kResources = 16;  // RLIMIT_CPU to RLIMIT_RTTIME
// Their names as users know them, by number; empty for the one that container tools do not offer.
std::string_view resource_name(std::uint8_t resource);
inline constexpr std::uint64_t kUnlimited = ~0ull;    // a limit that is none
inline constexpr std::uint64_t kMaxPids = 4'194'304;  // the kernel's largest pids.max
inline constexpr std::size_t kMaxTmpfs = 64;
inline constexpr std::size_t kMaxTmpfsOptions = 1024;
inline constexpr std::size_t kMaxSysctls = 256;
inline constexpr std::size_t kMaxSysctlName = 256;
inline constexpr std::size_t kMaxSysctlValue = 4095;  // the kernel takes a page with its end
inline constexpr std::size_t kMaxAddedGroups = 1024;
inline constexpr std::size_t kMaxResolverWords = 64;  // search domains, and options

struct Ulimit {
  std::uint8_t resource = 0;  // the kernel's RLIMIT_* number
  std::uint64_t soft = 0;     // kUnlimited: none
  std::uint64_t hard = 0;
  bool operator==(const Ulimit&) const = default;
};

// Of the main workload and, as its defaults, of every later exec.
struct ProcessSettings {
  // Bit N: capability N may be had at all. Nothing: everything that the kernel has.
  std::optional<std::uint64_t> capabilities;
  bool no_new_privileges = false;
  std::int32_t oom_score_adj = 0;   // -1000 to 1000
  std::vector<Ulimit> ulimits;      // each resource once
  std::vector<std::string> groups;  // names or numbers, beside those of the user
  bool operator==(const ProcessSettings&) const = default;
};

// Bits of TmpfsMount::flags.
inline constexpr std::uint32_t kTmpfsReadOnly = 1, kTmpfsNoExec = 2, kTmpfsNoSuid = 4,
                               kTmpfsNoDev = 8, kTmpfsNoAtime = 16, kTmpfsSync = 32;
inline constexpr std::uint32_t kAllTmpfsFlags = 63;

struct TmpfsMount {
  std::string path;  // absolute; made when missing
  std::uint32_t flags = kTmpfsNoExec | kTmpfsNoSuid | kTmpfsNoDev;
  std::string options;  // the file system's own: "size=64m,mode=1777"
  bool operator==(const TmpfsMount&) const = default;
};

// Of the machine; done once, as root, before the main workload's program starts.
struct MachineSettings {
  bool read_only_root = false;
  std::uint64_t shm_bytes = 0;          // 0: as it is
  std::uint64_t max_pids = 0;           // of all programs together; 0: no limit
  std::string domainname;               // empty: none
  std::vector<HostEntry> hosts;         // stand before what /etc/hosts has
  std::vector<std::string> dns;         // instead of those in /etc/resolv.conf; empty: they stay
  std::vector<std::string> dns_search;  // the same; a single "." means none
  std::vector<std::string> dns_options;
  std::vector<TmpfsMount> tmpfs;                             // mounted in this order
  std::vector<std::pair<std::string, std::string>> sysctls;  // name below /proc/sys, value
  bool operator==(const MachineSettings&) const = default;
};

struct ContainerSettings {
  ProcessSettings process;
  MachineSettings machine;
  bool operator==(const ContainerSettings&) const = default;
};

// One word of /etc/resolv.conf: a domain, "." for none, or an option such as ndots:2.
bool is_search_domain(std::string_view text);
bool is_resolver_option(std::string_view text);
// Absolute, no "." or ".." in it, neither the root nor in /proc.
bool is_tmpfs_path(std::string_view text);
// A path below /proc/sys: "net/core/somaxconn".
bool is_sysctl_path(std::string_view text);
// Printable text, spaces and tabs.
bool is_sysctl_value(std::string_view text);
// A name or a number; what the image's group file makes of it is seen in the guest.
bool is_group_word(std::string_view text);

// The rules of the page: kInvalidArgument names the setting.
Status check_container(const ContainerSettings& settings);

void put_container(ByteWriter& out, const ContainerSettings& settings);
// Checked with check_container(). kCorrupt: not as put_container() writes it.
Result<ContainerSettings> take_container(ByteReader& in);

}  // namespace sm::agent
