#include "runtime/worker/control_socket.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/file.h"

namespace sm {

namespace {

// Limit: more than one request's.
constexpr std::size_t kMaxDescriptors = 8;

}  // namespace

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
  if (!receive()) return close_and_stop();
  for (;;) {
    auto message = parser_.next();
    if (!message) return close_and_stop();
    if (!message->has_value()) return;
    if (!handle(**message)) return close_and_stop();
  }
}

// False: the parent is gone, or sends what nobody asked for.
bool ControlSocket::receive() {
  std::array<std::byte, 4096> buffer;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMaxDescriptors * sizeof(int))> ancillary{};
  iovec piece{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = ancillary.data();
  message.msg_controllen = ancillary.size();
  const ssize_t n = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (n <= 0) return false;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
      descriptors_.emplace_back(fd);
    }
  }
  parser_.feed(std::span(buffer).first(static_cast<std::size_t>(n)));
  return (message.msg_flags & MSG_CTRUNC) == 0 && descriptors_.size() <= kMaxDescriptors;
}

// False: nothing more is expected of the parent.
bool ControlSocket::handle(const control::Message& message) {
  if (const auto* snapshot = std::get_if<control::SnapshotRequest>(&message)) {
    const std::size_t wanted = control::kSnapshotDescriptors + (snapshot->disk ? 1 : 0);
    if (snapshot->path.empty() && descriptors_.size() < wanted) return false;
    callbacks_.on_snapshot(*snapshot, std::exchange(descriptors_, {}));
  } else if (const auto* pause = std::get_if<control::PauseRequest>(&message)) {
    callbacks_.on_pause(*pause);
  } else if (const auto* restore = std::get_if<control::RestoreRequest>(&message)) {
    if (!callbacks_.on_restore(*restore)) return false;
  } else if (std::holds_alternative<control::GetStats>(message)) {
    send(callbacks_.stats());
  } else {
    return std::holds_alternative<control::Hello>(message);
  }
  return watch_ != WatchId::kNone;
}

}  // namespace sm
