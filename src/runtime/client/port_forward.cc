#include "runtime/client/port_forward.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "runtime/client/guest_connect.h"
#include "runtime/client/socket_pump.h"

namespace sm {

namespace {
constexpr Duration kBusyPause = std::chrono::milliseconds(100);
}

Result<std::shared_ptr<PortForward>> PortForward::open(LoopThread& loop,
                                                       std::shared_ptr<VmEndpoint> vm,
                                                       std::uint16_t host_port,
                                                       std::uint16_t guest_port,
                                                       const std::string& ip) {
  if (guest_port == 0) return fail(Code::kInvalidArgument, "port 0 of the guest");
  std::shared_ptr<PortForward> out(new PortForward(loop, std::move(vm), guest_port));
  SM_TRY_STATUS(out->listen(ip, host_port));
  out->hook_ = loop.add_stop_hook([weak = out->weak_from_this()] {
    if (const auto self = weak.lock()) self->close();
  });
  return out;
}

PortForward::~PortForward() = default;

Status PortForward::listen(const std::string& ip, std::uint16_t host_port) {
  listener_ = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_.valid()) return fail_errno("socket", errno);
  const int on = 1;
  ::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(host_port);
  if (::inet_pton(AF_INET, ip.c_str(), &address.sin_addr) != 1) {
    return fail(Code::kInvalidArgument, "'" + ip + "' is no IPv4 address");
  }
  socklen_t size = sizeof(address);
  const std::string where = ip + ":" + std::to_string(host_port);
  // SAFETY: sockaddr_in begins with the family, as the sockets API defines.
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener_.get(), generic, size) < 0) return fail_errno("listen on " + where, errno);
  if (::listen(listener_.get(), SOMAXCONN) < 0 ||
      ::getsockname(listener_.get(), generic, &size) < 0) {
    return fail_errno("listen on " + where, errno);
  }
  port_ = ntohs(address.sin_port);
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
  connect_to_guest(loop_, vm_, guest_port_, [weak = weak_from_this(), id](Result<UniqueFd> guest) {
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
