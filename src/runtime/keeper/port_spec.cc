#include "runtime/keeper/port_spec.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "oci/text.h"

namespace sm {

namespace {

constexpr std::size_t kMaxText = 256;

std::string shown(std::string_view text) { return "'" + printable(text) + "'"; }

tl::unexpected<Error> bad(std::string why) {
  return fail(Code::kInvalidArgument, std::move(why),
              "write [IP:][HOST:]GUEST, such as 8080:80, 127.0.0.1:8000-8002:80-82 or "
              "[::1]:8080:80/tcp");
}

Result<std::uint16_t> port_of(std::string_view text) {
  std::uint16_t out = 0;
  const char* const end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, out);
  if (error == std::errc::result_out_of_range) {
    return bad(shown(text) + " is above 65535, the last port");
  }
  if (error != std::errc() || at != end) {
    return bad(shown(text) + " is no port");
  }
  return out;
}

Result<PortRange> range_of(std::string_view text) {
  const auto dash = text.find('-');
  PortRange out;
  out.first = SM_TRY(port_of(text.substr(0, dash)));
  out.last = out.first;
  if (dash == std::string_view::npos) return out;
  out.last = SM_TRY(port_of(text.substr(dash + 1)));
  if (out.last < out.first) return bad("the range " + shown(text) + " ends before it begins");
  if (out.first == 0) return bad("the range " + shown(text) + " begins with port 0");
  return out;
}

std::size_t size_of(const PortRange& range) { return std::size_t{range.last} - range.first + 1; }

Result<PortRange> guest_range(std::string_view text) {
  if (text.empty()) return bad("no port of the VM is given");
  const PortRange out = SM_TRY(range_of(text));
  if (out.first == 0) return bad("a VM has no port 0");
  return out;
}

// Cuts the protocol off.
Status take_protocol(std::string_view& text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return {};
  std::string name(text.substr(slash + 1));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  text = text.substr(0, slash);
  if (name == "tcp") return {};
  if (name == "udp" || name == "sctp") {
    return fail(Code::kUnsupported, "/" + name + " cannot be published, only TCP can",
                "leave out /" + name + ", or talk to the VM over TCP");
  }
  return bad(shown(name) + " is no protocol");
}

// Cuts the address off, brackets and colon included.
Result<std::string> take_bracketed(std::string_view& text) {
  const auto end = text.find(']');
  if (end == std::string_view::npos) return bad("the bracket of the address is not closed");
  std::string ip(text.substr(1, end - 1));
  in6_addr address{};
  if (::inet_pton(AF_INET6, ip.c_str(), &address) != 1) {
    return bad(shown(ip) + " is no IPv6 address");
  }
  text.remove_prefix(end + 1);
  if (text.empty() || text[0] != ':') return bad("behind the address there is no ':'");
  text.remove_prefix(1);
  // One spelling for each address.
  std::array<char, INET6_ADDRSTRLEN> canonical{};
  return std::string(::inet_ntop(AF_INET6, &address, canonical.data(), canonical.size()));
}

// Cuts the address off, its colon included. `text` has at least two colons.
Result<std::string> take_ipv4(std::string_view& text) {
  const auto colon = text.find(':');
  std::string ip(text.substr(0, colon));
  in_addr address{};
  if (::inet_pton(AF_INET, ip.c_str(), &address) != 1) {
    return ip.empty() ? bad("the address is missing") : bad(shown(ip) + " is no IPv4 address");
  }
  text.remove_prefix(colon + 1);
  return ip;
}

struct Ends {
  std::string ip = PortBinding().ip;
  PortRange host;  // from 0: any
  PortRange guest;
};

Result<Ends> ends_of(std::string_view text) {
  if (text.size() > kMaxText) return bad("it is too long");
  SM_TRY_STATUS(take_protocol(text));
  Ends out;
  const auto colons = std::count(text.begin(), text.end(), ':');
  const bool bracketed = !text.empty() && text[0] == '[';
  if (bracketed) {
    out.ip = SM_TRY(take_bracketed(text));
  } else if (colons > 2) {
    return bad("it has too many ':'; an IPv6 address stands in brackets");
  } else if (colons == 2) {
    out.ip = SM_TRY(take_ipv4(text));
  }
  const auto colon = text.find(':');
  if (colon == std::string_view::npos && bracketed) {
    return bad("behind the address stands only one port; write [IP]:HOST:GUEST");
  }
  if (colon != std::string_view::npos) {
    const auto host = text.substr(0, colon);
    if (!host.empty()) out.host = SM_TRY(range_of(host));
    text.remove_prefix(colon + 1);
  }
  if (text.find(':') != std::string_view::npos) return bad("it has too many ':'");
  out.guest = SM_TRY(guest_range(text));
  return out;
}

Result<std::vector<PortBinding>> bindings_of(const Ends& ends) {
  const std::size_t count = size_of(ends.guest);
  SM_TRY_STATUS(check_port_count(count));
  const bool free_one = count == 1 && size_of(ends.host) > 1;
  const bool any = ends.host.first == 0 || free_one;
  if (!any && size_of(ends.host) != count) {
    return bad("the host's ports are " + std::to_string(size_of(ends.host)) + " and the VM's " +
               std::to_string(count));
  }
  std::vector<PortBinding> out(count);
  for (std::size_t i = 0; i < count; ++i) {
    PortBinding& port = out[i];
    port.ip = ends.ip;
    port.guest = static_cast<std::uint16_t>(ends.guest.first + i);
    port.any = any;
    if (!any) port.host = static_cast<std::uint16_t>(ends.host.first + i);
    if (!free_one) continue;
    port.first = ends.host.first;
    port.last = ends.host.last;
  }
  return out;
}

std::string range_text(unsigned first, unsigned last) {
  return first == last ? std::to_string(first) : std::to_string(first) + "-" + std::to_string(last);
}

std::string with_address(const PortBinding& port, unsigned first, unsigned last) {
  const bool six = port.ip.find(':') != std::string::npos;
  return (six ? "[" + port.ip + "]" : port.ip) + ":" + range_text(first, last);
}

}  // namespace

Result<std::vector<PortBinding>> parse_ports(const std::string& text) {
  auto ends = ends_of(text);
  auto out = ends ? bindings_of(*ends) : fail(std::move(ends).error());
  if (!out) return fail(std::move(out).error().with("-p " + printable(text)));
  return out;
}

Result<PortRange> parse_guest_ports(const std::string& text) {
  std::string_view rest(text);
  if (rest.size() > kMaxText) return bad("a port's name is too long");
  SM_TRY_STATUS(take_protocol(rest));
  const PortRange out = SM_TRY(guest_range(rest));
  SM_TRY_STATUS(check_port_count(size_of(out)));
  return out;
}

Status check_port_count(std::size_t count) {
  if (count <= kMaxPublished) return {};
  return fail(Code::kLimit, std::to_string(count) + " ports are to be published",
              "at most " + std::to_string(kMaxPublished) + " of a VM can be");
}

std::string host_port_text(const PortBinding& port) {
  if (port.host == 0) return with_address(port, port.first, port.last);
  return with_address(port, port.host, port.host);
}

std::string port_text(const PortBinding& port) {
  return host_port_text(port) + "->" + std::to_string(port.guest) + "/tcp";
}

std::string ports_text(const std::vector<PortBinding>& ports) {
  std::string out;
  for (std::size_t i = 0; i < ports.size();) {
    const PortBinding& first = ports[i];
    std::size_t n = 1;
    while (i + n < ports.size() && first.host != 0 && ports[i + n].ip == first.ip &&
           ports[i + n].host == first.host + n && ports[i + n].guest == first.guest + n) {
      ++n;
    }
    const auto last = static_cast<unsigned>(n - 1);
    out += (out.empty() ? "" : ", ");
    out += n == 1 ? port_text(first)
                  : with_address(first, first.host, first.host + last) + "->" +
                        range_text(first.guest, first.guest + last) + "/tcp";
    i += n;
  }
  return out;
}

}  // namespace sm
