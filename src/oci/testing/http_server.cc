// A server for tests.
#include "oci/testing/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>

#include "base/check.h"

namespace sm::testing {

std::string HttpCall::header(std::string_view name) const {
  for (std::size_t at = head.find("\r\n"); at != std::string::npos;
       at = head.find("\r\n", at + 2)) {
    const auto start = at + 2;
    if (head.size() - start <= name.size() || head[start + name.size()] != ':') continue;
    if (::strncasecmp(head.data() + start, name.data(), name.size()) != 0) continue;
    const auto value = head.find_first_not_of(' ', start + name.size() + 1);
    return head.substr(value, head.find("\r\n", start) - value);
  }
  return {};
}

bool HttpPeer::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

void HttpPeer::respond(int status, std::string_view body, const Headers& headers) {
  std::string head = "HTTP/1.1 " + std::to_string(status) + " x\r\nConnection: close\r\n";
  bool has_length = false;
  for (const auto& [name, value] : headers) {
    head += name + ": " + value + "\r\n";
    has_length = has_length || name == "Content-Length";
  }
  if (!has_length) head += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  send(head + "\r\n");
  send(body);
}

void HttpPeer::hold() {
  while (true) {
    std::array<pollfd, 2> fds = {pollfd{fd_, POLLIN, 0}, pollfd{stop_fd_, POLLIN, 0}};
    ::poll(fds.data(), fds.size(), -1);
    if (fds[1].revents != 0) return;
    char byte = 0;
    if (fds[0].revents != 0 && ::recv(fd_, &byte, 1, 0) <= 0) return;
  }
}

HttpServer::HttpServer(Handler handler) : handler_(std::move(handler)) {
  listener_ = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* plain = reinterpret_cast<sockaddr*>(&address);
  SM_CHECK(::bind(listener_.get(), plain, sizeof(address)) == 0);
  SM_CHECK(::listen(listener_.get(), 64) == 0);
  socklen_t size = sizeof(address);
  SM_CHECK(::getsockname(listener_.get(), plain, &size) == 0);
  host_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  acceptor_ = std::jthread([this] { accept_all(); });
}

HttpServer::~HttpServer() {
  const std::uint64_t one = 1;
  SM_CHECK(::write(stop_.get(), &one, sizeof(one)) == sizeof(one));
  acceptor_.join();
  connections_.clear();
}

std::vector<std::string> HttpServer::log() const {
  std::lock_guard lock(mutex_);
  return log_;
}

void HttpServer::accept_all() {
  while (true) {
    std::array<pollfd, 2> fds = {pollfd{listener_.get(), POLLIN, 0},
                                 pollfd{stop_.get(), POLLIN, 0}};
    ::poll(fds.data(), fds.size(), -1);
    if (fds[1].revents != 0) return;
    const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    connections_.emplace_back([this, fd] { serve(UniqueFd(fd)); });
  }
}

void HttpServer::serve(UniqueFd connection) {
  HttpCall call;
  std::string text;
  std::array<char, 65536> buffer;
  const auto more = [&] {
    std::array<pollfd, 2> fds = {pollfd{connection.get(), POLLIN, 0},
                                 pollfd{stop_.get(), POLLIN, 0}};
    ::poll(fds.data(), fds.size(), -1);
    if (fds[1].revents != 0) return false;
    const auto got = ::recv(connection.get(), buffer.data(), buffer.size(), 0);
    if (got <= 0) return false;
    text.append(buffer.data(), static_cast<std::size_t>(got));
    return true;
  };
  std::size_t end = 0;
  while ((end = text.find("\r\n\r\n")) == std::string::npos) {
    // A client that wants TLS is told at once.
    if (!more() || text[0] == '\x16') return;
  }
  call.head = text.substr(0, end + 2);
  call.method = call.head.substr(0, call.head.find(' '));
  const auto target = call.method.size() + 1;
  call.target = call.head.substr(target, call.head.find(' ', target) - target);
  const auto length = std::strtoull(call.header("Content-Length").c_str(), nullptr, 10);
  while (text.size() < end + 4 + length) {
    if (!more()) return;
  }
  call.body = text.substr(end + 4);
  {
    std::lock_guard lock(mutex_);
    log_.push_back(call.method + " " + call.target);
  }
  HttpPeer peer(connection.get(), stop_.get());
  handler_(call, peer);
}

}  // namespace sm::testing
