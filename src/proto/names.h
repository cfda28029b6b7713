// What counts as a host name, an address and an environment entry wherever one travels between host
// and guest. Pure functions. Freestanding: usable in guest/.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sm {

inline constexpr std::size_t kMaxHostname = 64;   // the kernel's own limit
inline constexpr std::size_t kMaxHostName = 253;  // in /etc/hosts: as DNS limits it
inline constexpr std::size_t kMaxNameServers = 16;
inline constexpr std::size_t kMaxHostEntries = 1024;

// The serial number of the disk that keeps what is written to a machine's root.
inline constexpr std::string_view kRootDiskSerial = "root";

// One line of /etc/hosts.
struct HostEntry {
  std::string address;
  std::string name;
  bool operator==(const HostEntry&) const = default;
};

// 1 to `limit` letters, digits, and characters of `also`.
bool is_name(std::string_view text, std::string_view also, std::size_t limit);
bool is_hostname(std::string_view text);
bool is_host_entry(const HostEntry& entry);
// IPv4 or IPv6, without a zone.
bool is_ip_address(const std::string& text);
// "NAME=VALUE" with a name and without NUL.
bool is_environment_entry(std::string_view text);
// 32 lower-case hexadecimal digits, not all of them zero.
bool is_machine_id(std::string_view text);
// The serial number of a disk: 1 to 20 letters, digits, '.', '_', '-'.
bool is_disk_serial(std::string_view text);

}  // namespace sm
