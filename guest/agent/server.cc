#include "agent/server.h"

#include <sys/socket.h>

#include <utility>

#include "agent/connection.h"
#include "agent/forwarder.h"
#include "agent/kernel_controls.h"
#include "agent/session.h"
#include "base/file.h"

namespace sm::guest {

namespace {

// Best effort: a peer above the limit learns why, if its socket takes one frame at once.
void refuse(int socket) {
  const auto hello = agent::encode_hello({});
  const auto error =
      agent::encode_error({agent::ErrorKind::kResource, 0, "too many connections to the agent"});
  for (const auto& frame : {hello, error}) {
    if (::send(socket, frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return;
  }
}

}  // namespace

ServerOptions::ServerOptions() = default;
ServerOptions::ServerOptions(ServerOptions&&) noexcept = default;
ServerOptions::~ServerOptions() = default;

Server::Server(EventLoop& loop, UniqueFd init_link, ServerOptions options)
    : loop_(loop),
      options_(std::move(options)),
      processes_(loop, options_.cgroup_base),
      workload_(loop, processes_, std::move(init_link), options_.settings) {}

Server::~Server() = default;

Services Server::services() { return {loop_, processes_, workload_, *this}; }

std::uint32_t Server::generation() const { return options_.generation ? options_.generation() : 0; }

void Server::adopt(UniqueFd socket) {
  if (connections() >= options_.max_connections) return refuse(socket.get());
  if (!set_nonblocking(socket.get(), true)) return;
  const std::uint64_t id = next_id_++;
  auto& place = connections_[id];
  place = std::make_unique<Connection>(services(), std::move(socket), id);
  place->start();
}

void Server::forward(UniqueFd socket, std::vector<std::byte> unsent, std::vector<std::byte> first,
                     std::uint16_t port) {
  const std::uint64_t id = next_id_++;
  auto& place = forwarders_[id];
  place = std::make_unique<Forwarder>(services(), std::move(socket), id);
  place->start(port, std::move(unsent), std::move(first));
}

void Server::retire(std::uint64_t id) {
  loop_.post([this, id] {
    connections_.erase(id);
    forwarders_.erase(id);
  });
}

void Server::keep(std::unique_ptr<Session> session) { kept_ = std::move(session); }

std::unique_ptr<Session> Server::take_kept() { return std::move(kept_); }

void Server::drop_kept() {
  loop_.post([this] { kept_.reset(); });
}

}  // namespace sm::guest
