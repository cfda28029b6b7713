#include "runtime/client/socket_pump.h"

#include <sys/socket.h>

#include <cerrno>
#include <span>
#include <utility>

namespace sm {

SocketPump::SocketPump(EventLoop& loop, UniqueFd a, UniqueFd b, std::function<void()> on_end)
    : loop_(loop), on_end_(std::move(on_end)) {
  sides_[0].fd = std::move(a);
  sides_[1].fd = std::move(b);
  set_interest(0, EPOLLIN);
  set_interest(1, EPOLLIN);
}

SocketPump::~SocketPump() {
  *alive_ = false;
  for (Side& side : sides_) loop_.remove(side.watch);
}

// A socket that nothing is wanted of leaves the loop: a hang-up would be reported for ever.
void SocketPump::set_interest(std::size_t index, std::uint32_t wanted) {
  Side& side = sides_[index];
  if (side.interest == wanted) return;
  side.interest = wanted;
  if (wanted == 0) return loop_.remove(std::exchange(side.watch, WatchId::kNone));
  if (side.watch != WatchId::kNone) {
    static_cast<void>(loop_.modify(side.watch, wanted));
    return;
  }
  auto watch = loop_.add(side.fd.get(), wanted,
                         [this, index](std::uint32_t events) { on_events(index, events); });
  if (!watch) return end_soon();
  side.watch = *watch;
}

void SocketPump::on_events(std::size_t index, std::uint32_t events) {
  Side& side = sides_[index];
  Side& other = sides_[1 - index];
  if ((events & EPOLLOUT) != 0 && !flush(side)) return end_soon();
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !side.read_closed &&
      !receive(side, other)) {
    return end_soon();
  }
  if (!flush(other)) return end_soon();
  update(0);
  update(1);
  if (sides_[0].write_closed && sides_[1].write_closed) end_soon();
}

// False when the socket is broken.
bool SocketPump::receive(Side& from, Side& to) {
  if (to.out.size() >= kBuffer) return true;
  std::array<std::byte, kBuffer> buffer;
  const ssize_t n = ::recv(from.fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n == 0) from.read_closed = true;
  const auto got = std::span(buffer).first(static_cast<std::size_t>(n));
  to.out.insert(to.out.end(), got.begin(), got.end());
  return true;
}

bool SocketPump::flush(Side& side) {
  while (side.out_start < side.out.size()) {
    const ssize_t n = ::send(side.fd.get(), side.out.data() + side.out_start,
                             side.out.size() - side.out_start, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno == EAGAIN;
    side.out_start += static_cast<std::size_t>(n);
  }
  side.out.clear();
  side.out_start = 0;
  return true;
}

void SocketPump::update(std::size_t index) {
  Side& side = sides_[index];
  const Side& other = sides_[1 - index];
  if (other.read_closed && side.out.empty() && !side.write_closed) {
    side.write_closed = true;
    ::shutdown(side.fd.get(), SHUT_WR);
  }
  const bool may_read = !side.read_closed && other.out.size() < kBuffer;
  set_interest(index, (may_read ? EPOLLIN : 0u) | (side.out.empty() ? 0u : EPOLLOUT));
}

void SocketPump::end_soon() {
  if (!on_end_) return;
  loop_.post([alive = alive_, on_end = std::exchange(on_end_, {})] {
    if (*alive) on_end();
  });
}

}  // namespace sm
