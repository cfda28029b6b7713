#include "agent/vsock_listener.h"

#include <linux/vm_sockets.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "base/clock.h"

namespace sm::guest {

namespace {
constexpr int kBacklog = 1024;
constexpr auto kPause = std::chrono::milliseconds(100);
}  // namespace

Result<std::unique_ptr<VsockListener>> VsockListener::open(EventLoop& loop, std::uint32_t port,
                                                           OnConnection on_connection) {
  UniqueFd fd(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return fail_errno("vsock socket", errno);
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_port = port;
  address.svm_cid = VMADDR_CID_ANY;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) < 0) {
    return fail_errno("bind to vsock port " + std::to_string(port), errno);
  }
  if (::listen(fd.get(), kBacklog) < 0) return fail_errno("listen on vsock", errno);
  return std::unique_ptr<VsockListener>(
      new VsockListener(loop, std::move(fd), std::move(on_connection)));
}

VsockListener::VsockListener(EventLoop& loop, UniqueFd fd, OnConnection on_connection)
    : loop_(loop),
      fd_(std::move(fd)),
      on_connection_(std::move(on_connection)),
      watch_(loop, fd_.get(), [this](std::uint32_t) { accept_one(); }) {
  watch_.want(EPOLLIN);
}

void VsockListener::accept_one() {
  sockaddr_vm peer{};
  socklen_t size = sizeof(peer);
  UniqueFd socket(::accept4(fd_.get(), reinterpret_cast<sockaddr*>(&peer), &size,
                            SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid()) {
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) pause();
    return;
  }
  // A process of the guest reaches this port as well, through the loopback transport. Only the
  // host may give orders.
  if (peer.svm_family != AF_VSOCK || peer.svm_cid != VMADDR_CID_HOST) return;
  on_connection_(std::move(socket));
}

// Out of descriptors or memory: the connection waits in the backlog instead of spinning here.
void VsockListener::pause() {
  watch_.want(0);
  loop_.add_timer(now() + kPause, [this] { watch_.want(EPOLLIN); });
}

}  // namespace sm::guest
