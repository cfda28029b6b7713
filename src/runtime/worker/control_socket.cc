#include "runtime/worker/control_socket.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "base/file.h"

namespace sm {

Result<std::unique_ptr<ControlSocket>> ControlSocket::open(EventLoop& loop, int fd,
                                                           Callbacks callbacks) {
  UniqueFd socket(fd);
  int type = 0;
  socklen_t size = sizeof(type);
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM) {
    socket.release();
    return fail(Code::kInvalidArgument,
                "--control: descriptor " + std::to_string(fd) + " is not a stream socket");
  }
  if (::fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) return fail_errno("fcntl", errno);
  SM_TRY_STATUS(set_nonblocking(fd, true));
  std::unique_ptr<ControlSocket> out(
      new ControlSocket(loop, std::move(socket), std::move(callbacks)));
  out->watch_ = SM_TRY(loop.add(fd, EPOLLIN, [c = out.get()](std::uint32_t) { c->on_readable(); }));
  out->send(control::Hello{control::kVersion, "supermachine-worker " SM_VERSION});
  return out;
}

ControlSocket::ControlSocket(EventLoop& loop, UniqueFd socket, Callbacks callbacks)
    : loop_(loop), socket_(std::move(socket)), callbacks_(std::move(callbacks)) {}

ControlSocket::~ControlSocket() { loop_.remove(watch_); }

void ControlSocket::send(const control::Message& message) {
  const auto bytes = control::encode(message);
  // A parent that does not read a handful of small messages is as good as gone.
  const ssize_t n = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n != static_cast<ssize_t>(bytes.size())) close_and_stop();
}

void ControlSocket::close_and_stop() {
  loop_.remove(watch_);
  watch_ = WatchId::kNone;
  callbacks_.on_stop();
}

void ControlSocket::on_readable() {
  std::array<std::byte, 4096> buffer;
  const ssize_t n = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) return close_and_stop();
  parser_.feed(std::span(buffer).first(static_cast<std::size_t>(n)));
  for (;;) {
    auto message = parser_.next();
    if (!message) return close_and_stop();
    if (!message->has_value()) return;
    if (!handle(**message)) return close_and_stop();
  }
}

// False: nothing more is expected of the parent.
bool ControlSocket::handle(const control::Message& message) {
  if (const auto* snapshot = std::get_if<control::SnapshotRequest>(&message)) {
    callbacks_.on_snapshot(*snapshot);
  } else if (const auto* pause = std::get_if<control::PauseRequest>(&message)) {
    callbacks_.on_pause(*pause);
  } else if (std::holds_alternative<control::GetStats>(message)) {
    send(callbacks_.stats());
  } else {
    return std::holds_alternative<control::Hello>(message);
  }
  return watch_ != WatchId::kNone;
}

}  // namespace sm
