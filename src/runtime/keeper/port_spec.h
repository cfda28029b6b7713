// How ports are written: what `-p` takes, what `ps` and `port` show. No files, no sockets. Any
// thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runtime/keeper/vm_record.h"

namespace sm {

// Limit: ports that are published for one VM; each is a descriptor of its keeper.
inline constexpr std::size_t kMaxPublished = 512;

struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;
};

// "[IP:][HOST:]GUEST[/tcp]", where IP is an IPv4 address or an IPv6 one in brackets, and HOST and
// GUEST are ports or ranges "FIRST-LAST" of the same size, of which a binding each is made. A range
// of the host for one port of the guest: one of the range that is free. HOST missing, empty or 0:
// any port that is free. kInvalidArgument; kUnsupported for /udp and /sctp; kLimit.
Result<std::vector<PortBinding>> parse_ports(const std::string& text);
// "GUEST[/tcp]": ports of a VM alone, as `port` and images name them. Errors as above.
Result<PortRange> parse_guest_ports(const std::string& text);
// More than kMaxPublished for one VM: kLimit.
Status check_port_count(std::size_t count);

// "127.0.0.1:8080", "[::1]:8080"; the port of a range that was not chosen yet is "8000-8010".
std::string host_port_text(const PortBinding& port);
// "127.0.0.1:8080->80/tcp"
std::string port_text(const PortBinding& port);
// All of them behind commas; neighbours are "127.0.0.1:8000-8002->80-82/tcp".
std::string ports_text(const std::vector<PortBinding>& ports);

}  // namespace sm
