#include "agent/forwarder.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "agent/server.h"
#include "proto/agent.h"

namespace sm::guest {

namespace {

constexpr std::size_t kMaxQueue = 256u << 10;

int connect_to(int fd, std::uint16_t port, bool v6) {
  if (v6) {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(port);
    address.sin6_addr = in6addr_loopback;
    return ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

bool is_connected(int fd) {
  sockaddr_storage peer{};
  socklen_t size = sizeof(peer);
  return ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0;
}

}  // namespace

Forwarder::Forwarder(const Services& services, UniqueFd host, std::uint64_t id)
    : services_(services), id_(id) {
  host_.fd = std::move(host);
  host_.watch =
      std::make_unique<FdWatch>(services_.loop, host_.fd.get(),
                                [this](std::uint32_t events) { on_events(host_, guest_, events); });
}

Forwarder::~Forwarder() {
  if (timer_ != TimerId::kNone) services_.loop.cancel_timer(timer_);
}

void Forwarder::start(std::uint16_t port, std::vector<std::byte> unsent,
                      std::vector<std::byte> first) {
  port_ = port;
  host_.out.push(unsent);
  guest_.out.push(first);
  timer_ = services_.loop.add_timer(now() + services_.server.options().connect_timeout, [this] {
    timer_ = TimerId::kNone;
    connect_failed(ETIMEDOUT);
  });
  update();
  try_connect(false);
}

void Forwarder::try_connect(bool v6) {
  v6_ = v6;
  guest_.watch.reset();
  guest_.fd =
      UniqueFd(::socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!guest_.fd.valid()) return connect_failed(errno);
  const int fd = guest_.fd.get();
  if (connect_to(fd, port_, v6) < 0 && errno != EINPROGRESS) return connect_failed(errno);
  guest_.watch = std::make_unique<FdWatch>(services_.loop, fd, [this](std::uint32_t events) {
    if (connected_) {
      on_events(guest_, host_, events);
    } else {
      on_connecting();
    }
  });
  // On the loopback a listener's kernel has answered by now.
  if (is_connected(fd)) return connected();
  guest_.watch->want(EPOLLOUT);
}

void Forwarder::on_connecting() {
  int error = 0;
  socklen_t size = sizeof(error);
  if (::getsockopt(guest_.fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) < 0) error = errno;
  if (error != 0) return connect_failed(error);
  connected();
}

void Forwarder::connect_failed(int error) {
  if (!v6_ && error == ECONNREFUSED) return try_connect(true);
  if (timer_ != TimerId::kNone) services_.loop.cancel_timer(std::exchange(timer_, TimerId::kNone));
  guest_.watch.reset();
  guest_.fd.reset();
  ending_ = true;
  host_.out.push(agent::encode_error(
      {agent::ErrorKind::kConnect, static_cast<std::uint32_t>(error),
       Error::from_errno("connect to the guest's port " + std::to_string(port_), error).cause()}));
  set_timer();
  update();
}

void Forwarder::connected() {
  services_.loop.cancel_timer(std::exchange(timer_, TimerId::kNone));
  connected_ = true;
  const int on = 1;
  ::setsockopt(guest_.fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  host_.out.push(agent::encode_started({}));
  if (!flush(host_) || !flush(guest_)) return close();
  update();
}

void Forwarder::on_events(End& end, End& other, std::uint32_t events) {
  if (closed_) return;
  if ((events & EPOLLOUT) != 0 && !flush(end)) return close();
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !receive(end, other)) return close();
  // At once, not when the loop says that there is room: there is, nearly always.
  if ((connected_ || &other == &host_) && !flush(other)) return close();
  update();
}

// False when the end is broken.
bool Forwarder::receive(End& from, End& to) {
  if (from.read_closed) return true;
  std::array<std::byte, 65536> buffer;
  const ssize_t n = ::recv(from.fd.get(), buffer.data(), buffer.size(), 0);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n == 0) {
    from.read_closed = true;
  } else if (!ending_) {
    to.out.push(std::span(buffer).first(static_cast<std::size_t>(n)));
  }
  return true;
}

bool Forwarder::flush(End& end) {
  while (!end.out.empty()) {
    const auto bytes = end.out.front();
    const ssize_t n = ::send(end.fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno == EAGAIN;
    end.out.pop(static_cast<std::size_t>(n));
  }
  return true;
}

// Hands an end of file on once everything before it is written, and asks for the events that make
// sense now. A queue that is full stops the reading on the other side.
void Forwarder::update() {
  const auto settle = [](End& end, const End& other, bool other_done) {
    if (other_done && end.out.empty() && !end.write_closed && end.fd.valid()) {
      end.write_closed = true;
      ::shutdown(end.fd.get(), SHUT_WR);
    }
    if (!end.watch) return;
    const bool may_read = !end.read_closed && other.out.size() < kMaxQueue;
    end.watch->want((may_read ? EPOLLIN : 0u) | (end.out.empty() ? 0u : EPOLLOUT));
  };
  settle(host_, guest_, ending_ || guest_.read_closed);
  if (connected_) settle(guest_, host_, host_.read_closed);
  const bool host_done = host_.read_closed && host_.write_closed;
  const bool gave_up = host_.read_closed && !connected_ && !ending_;
  if (host_done || gave_up) {
    if (!connected_ || (guest_.read_closed && guest_.write_closed)) close();
  }
}

void Forwarder::set_timer() {
  timer_ = services_.loop.add_timer(now() + services_.server.options().close_timeout, [this] {
    timer_ = TimerId::kNone;
    close();
  });
}

void Forwarder::close() {
  if (closed_) return;
  closed_ = true;
  if (timer_ != TimerId::kNone) services_.loop.cancel_timer(std::exchange(timer_, TimerId::kNone));
  host_.watch.reset();
  guest_.watch.reset();
  host_.fd.reset();
  guest_.fd.reset();
  services_.server.retire(id_);
}

}  // namespace sm::guest
