#include "vmm/virtio/vsock/host_socket.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>

namespace sm {

namespace {

template <class Call>
ssize_t transfer(std::span<iovec> pieces, Call&& call) {
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  ssize_t n;
  do {
    n = call(message);
  } while (n < 0 && errno == EINTR);
  return n;
}

}  // namespace

const std::uint32_t VsockHostSocket::kEvents =
    EPOLLIN | EPOLLOUT | EPOLLRDHUP | static_cast<std::uint32_t>(EPOLLET);

void VsockHostSocket::note_events(std::uint32_t events) {
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readable_ = true;
  if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) writable_ = true;
  if ((events & EPOLLHUP) != 0) hung_up_ = true;
}

VsockHostSocket::Transfer VsockHostSocket::read(std::span<iovec> into) {
  const ssize_t n =
      transfer(into, [&](msghdr& m) { return ::recvmsg(fd_.get(), &m, MSG_DONTWAIT); });
  if (n > 0) return {Io::kDone, static_cast<std::size_t>(n)};
  readable_ = false;
  if (n == 0) return {Io::kEnd, 0};
  return {errno == EAGAIN ? Io::kBlocked : Io::kBroken, 0};
}

VsockHostSocket::Transfer VsockHostSocket::write(std::span<iovec> from) {
  const ssize_t n = transfer(
      from, [&](msghdr& m) { return ::sendmsg(fd_.get(), &m, MSG_DONTWAIT | MSG_NOSIGNAL); });
  if (n > 0) return {Io::kDone, static_cast<std::size_t>(n)};
  writable_ = false;
  if (n == 0 || errno == EAGAIN) return {Io::kBlocked, 0};
  // What the peer has sent before it closed is still to be read, so this is only half an end.
  return {Io::kEnd, 0};
}

void VsockHostSocket::end_writing() { ::shutdown(fd_.get(), SHUT_WR); }

void VsockHostSocket::end_reading() {
  ::shutdown(fd_.get(), SHUT_RD);
  readable_ = false;
}

void VsockHostSocket::reset_on_close() {
  if (!fd_.valid()) return;
  const linger now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

}  // namespace sm
