#include "runtime/keeper/keeper_server.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "runtime/vm_dir.h"

namespace sm {

namespace {

// So long may a client take to say what it wants.
constexpr Duration kRequestTime = std::chrono::seconds(10);

}  // namespace

Result<std::unique_ptr<KeeperServer>> KeeperServer::listen(const std::string& path) {
  // Who finds a socket under its name finds somebody who listens.
  const std::string fresh = path + "~";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (fresh.size() >= sizeof(address.sun_path)) {
    return fail(Code::kUnsupported, "socket path too long: " + path,
                "set a shorter XDG_RUNTIME_DIR");
  }
  std::memcpy(address.sun_path, fresh.c_str(), fresh.size() + 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return fail_errno("socket", errno);
  // Between bind and listen it looks like one that a dead keeper left.
  const auto folder = std::filesystem::path(path).parent_path().string();
  const UniqueFd guard = SM_TRY(VmDir::lock_all(folder));
  ::unlink(fresh.c_str());
  // SAFETY: sockaddr_un begins with the family, as the sockets API defines.
  auto* const generic = reinterpret_cast<const sockaddr*>(&address);
  if (::bind(fd.get(), generic, sizeof(address)) < 0 || ::listen(fd.get(), SOMAXCONN) < 0 ||
      ::rename(fresh.c_str(), path.c_str()) < 0) {
    return fail_errno("listen on " + path, errno);
  }
  return std::unique_ptr<KeeperServer>(new KeeperServer(path, std::move(fd)));
}

KeeperServer::~KeeperServer() {
  leave();
  close();
}

Status KeeperServer::serve(EventLoop& loop) {
  leave();
  loop_ = &loop;
  if (listener_.valid()) {
    watch_ = SM_TRY(loop.add(listener_.get(), EPOLLIN, [this](std::uint32_t) { on_connection(); }));
  }
  std::vector<CallId> ids;
  for (const auto& [id, call] : calls_) ids.push_back(id);
  for (const CallId id : ids) watch(id);
  return {};
}

void KeeperServer::leave() {
  if (loop_ == nullptr) return;
  loop_->remove(std::exchange(watch_, WatchId::kNone));
  for (auto& [id, call] : calls_) unwatch(call);
  loop_ = nullptr;
}

void KeeperServer::hide() {
  if (!path_.empty()) ::unlink(path_.c_str());
  path_.clear();
}

void KeeperServer::close() {
  if (loop_ != nullptr) loop_->remove(std::exchange(watch_, WatchId::kNone));
  hide();
  // A process that was forked off may hold a copy: this turns away in all.
  if (listener_.valid()) ::shutdown(listener_.get(), SHUT_RDWR);
  listener_.reset();
}

void KeeperServer::disown() {
  path_.clear();
  listener_.reset();
}

void KeeperServer::on_connection() {
  UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid() || calls_.size() >= kMaxCalls) return;
  // The folder is private; this is the second lock on the door.
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
      (peer.uid != ::getuid() && peer.uid != 0)) {
    return;
  }
  const CallId id = next_id_++;
  calls_[id].socket = std::move(socket);
  watch(id);
}

void KeeperServer::watch(CallId id) {
  Call& call = calls_.at(id);
  auto added = loop_->add(call.socket.get(), EPOLLIN, [this, id](std::uint32_t) { receive(id); });
  if (!added) return forget(id);
  call.watch = *added;
  if (call.asked) return;
  call.timer = loop_->add_timer(now() + kRequestTime, [this, id] { forget(id); });
}

void KeeperServer::unwatch(Call& call) {
  if (loop_ == nullptr) return;
  loop_->remove(std::exchange(call.watch, WatchId::kNone));
  loop_->cancel_timer(std::exchange(call.timer, TimerId::kNone));
}

void KeeperServer::receive(CallId id) {
  const auto it = calls_.find(id);
  if (it == calls_.end()) return;
  Call& call = it->second;
  std::array<std::byte, 16u << 10> buffer;
  const ssize_t n = ::recv(call.socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  // Nobody waits for an answer any more, or somebody says more than one thing.
  if (n <= 0 || call.asked) return forget(id);
  call.buffer.insert(call.buffer.end(), buffer.begin(), buffer.begin() + n);
  auto message = take_message(call.buffer);
  if (message && !message->has_value()) return;
  auto request = message ? decode_request(**message) : fail(std::move(message).error());
  if (!request) return reply(id, {.error = std::move(request).error(), .status = 0, .stats = {}});
  call.asked = true;
  loop_->cancel_timer(std::exchange(call.timer, TimerId::kNone));
  handler_(id, *std::move(request));
}

void KeeperServer::forget(CallId id) {
  const auto it = calls_.find(id);
  if (it == calls_.end()) return;
  unwatch(it->second);
  calls_.erase(it);
}

void KeeperServer::reply(CallId id, const KeeperReply& reply) {
  const auto it = calls_.find(id);
  if (it == calls_.end()) return;
  // Small and the only one: the socket's buffer has room.
  const auto bytes = encode_reply(reply);
  static_cast<void>(
      ::send(it->second.socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
  forget(id);
}

UniqueFd KeeperServer::take(CallId id) {
  const auto it = calls_.find(id);
  if (it == calls_.end()) return {};
  const auto bytes = encode_reply({});
  UniqueFd out = std::move(it->second.socket);
  loop_->remove(std::exchange(it->second.watch, WatchId::kNone));
  forget(id);
  if (::send(out.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return {};
  return out;
}

}  // namespace sm
