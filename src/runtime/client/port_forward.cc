#include "runtime/client/port_forward.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <span>
#include <utility>

#include "runtime/client/guest_connect.h"
#include "runtime/client/socket_pump.h"

namespace sm {

namespace {
// Less than the socket of the agent takes at once.
constexpr std::size_t kFirstBytes = 16u << 10;
constexpr Duration kBusyPause = std::chrono::milliseconds(100);

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;

  static Result<Address> of(const std::string& ip) {
    Address out;
    const bool six = ip.find(':') != std::string::npos;
    out.storage.ss_family = six ? AF_INET6 : AF_INET;
    out.size = six ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    void* const to =
        six ? static_cast<void*>(&out.six().sin6_addr) : static_cast<void*>(&out.four().sin_addr);
    if (::inet_pton(out.storage.ss_family, ip.c_str(), to) == 1) return out;
    return fail(Code::kInvalidArgument, "'" + ip + "' is no IP address");
  }
  // SAFETY: sockaddr_storage is large enough and aligned for each of these, and all begin with the
  // family, as the sockets API defines.
  sockaddr* generic() { return reinterpret_cast<sockaddr*>(&storage); }
  sockaddr_in& four() { return reinterpret_cast<sockaddr_in&>(storage); }
  sockaddr_in6& six() { return reinterpret_cast<sockaddr_in6&>(storage); }
  bool is_six() const { return storage.ss_family == AF_INET6; }
  void set_port(std::uint16_t port) {
    (is_six() ? six().sin6_port : four().sin_port) = htons(port);
  }
  std::uint16_t port() { return ntohs(is_six() ? six().sin6_port : four().sin_port); }
};

Result<UniqueFd> open_listener(const Address& address) {
  UniqueFd out(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!out.valid()) return fail_errno("socket", errno);
  const int on = 1;
  ::setsockopt(out.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  // [::] and 0.0.0.0 are two addresses: who wants both says so.
  if (address.is_six()) ::setsockopt(out.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  return out;
}

std::string address_text(const HostPorts& host) {
  const bool six = host.ip.find(':') != std::string::npos;
  std::string out = (six ? "[" + host.ip + "]" : host.ip) + ":" + std::to_string(host.first);
  if (host.last > host.first) out += "-" + std::to_string(host.last);
  return out;
}

}  // namespace

Result<std::shared_ptr<PortForward>> PortForward::open(LoopThread& loop,
                                                       std::shared_ptr<VmEndpoint> vm,
                                                       const HostPorts& host,
                                                       std::uint16_t guest_port) {
  if (guest_port == 0) return fail(Code::kInvalidArgument, "port 0 of the guest");
  std::shared_ptr<PortForward> out(new PortForward(loop, std::move(vm), guest_port));
  SM_TRY_STATUS(out->listen(host));
  out->hook_ = loop.add_stop_hook([weak = out->weak_from_this()] {
    if (const auto self = weak.lock()) self->close();
  });
  return out;
}

PortForward::~PortForward() = default;

Status PortForward::listen(const HostPorts& host) {
  Address address = SM_TRY(Address::of(host.ip));
  const std::string where = "listen on " + address_text(host);
  // A range is tried one by one; a socket that failed to bind may try again.
  for (std::uint32_t port = host.first;; ++port) {
    listener_ = SM_TRY_WITH(open_listener(address), where);
    address.set_port(static_cast<std::uint16_t>(port));
    if (::bind(listener_.get(), address.generic(), address.size) == 0 &&
        ::listen(listener_.get(), SOMAXCONN) == 0) {
      break;
    }
    if (errno != EADDRINUSE || port >= host.last) return fail_errno(where, errno);
  }
  if (::getsockname(listener_.get(), address.generic(), &address.size) < 0) {
    return fail_errno(where, errno);
  }
  port_ = address.port();
  update_watch();
  return {};
}

void PortForward::update_watch() {
  const bool wanted = listener_.valid() && connections_.size() < kMaxConnections;
  if (wanted == (watch_ != WatchId::kNone)) return;
  if (!wanted) return loop_.loop().remove(std::exchange(watch_, WatchId::kNone));
  auto watch =
      loop_.loop().add(listener_.get(), EPOLLIN, [this](std::uint32_t) { on_connection(); });
  if (watch) watch_ = *watch;
}

void PortForward::on_connection() {
  UniqueFd host(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!host.valid()) {
    if (errno != EMFILE && errno != ENFILE) return;
    // The connection stays in the backlog, and the loop would spin on it.
    loop_.loop().remove(std::exchange(watch_, WatchId::kNone));
    loop_.loop().add_timer(now() + kBusyPause, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->update_watch();
    });
    return;
  }
  const int on = 1;
  ::setsockopt(host.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  const std::uint64_t id = next_id_++;
  connections_[id].host = std::move(host);
  update_watch();
  // A client that speaks first has often spoken by now: that goes along with the request.
  std::array<std::byte, kFirstBytes> first;
  const ssize_t n = ::recv(connections_[id].host.get(), first.data(), first.size(), MSG_DONTWAIT);
  const auto spoken = std::span(first).first(n > 0 ? static_cast<std::size_t>(n) : 0);
  connect_to_guest(loop_, vm_, guest_port_, spoken,
                   [weak = weak_from_this(), id](Result<UniqueFd> guest) {
                     if (const auto self = weak.lock()) self->on_guest(id, std::move(guest));
                   });
}

void PortForward::on_guest(std::uint64_t id, Result<UniqueFd> guest) {
  const auto it = connections_.find(id);
  if (it == connections_.end()) return;
  // Nobody answers there: the host's side is closed.
  if (!guest) return forget(id);
  it->second.pump = std::make_unique<SocketPump>(loop_.loop(), std::move(it->second.host),
                                                 std::move(*guest), [weak = weak_from_this(), id] {
                                                   if (const auto self = weak.lock())
                                                     self->forget(id);
                                                 });
}

void PortForward::forget(std::uint64_t id) {
  connections_.erase(id);
  update_watch();
}

void PortForward::close() {
  loop_.remove_stop_hook(std::exchange(hook_, HookId::kNone));
  loop_.loop().remove(std::exchange(watch_, WatchId::kNone));
  listener_.reset();
  connections_.clear();
}

}  // namespace sm
