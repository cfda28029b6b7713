// Which TCP ports of a guest somebody listens on, from its /proc/net/tcp and tcp6. Hostile input.
#pragma once

#include <compare>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

namespace sm {

struct TcpListener {
  std::string address;  // as the kernel writes it, hexadecimal
  std::uint16_t port = 0;
  auto operator<=>(const TcpListener&) const = default;
};

// Lines that are none are skipped. Limit: the first 4096 listeners.
std::set<TcpListener> parse_tcp_listeners(std::string_view text);

}  // namespace sm
