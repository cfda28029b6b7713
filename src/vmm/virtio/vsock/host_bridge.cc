#include "vmm/virtio/vsock/host_bridge.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace sm {

namespace {

// Limit: so many connections are taken in one turn of the loop.
constexpr int kAcceptsPerTurn = 16;
// How long to leave the queue alone when the process has no descriptor left.
constexpr auto kRetryAfter = std::chrono::milliseconds(100);

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path) ||
      path.find('\0') != std::string::npos) {
    return fail(Code::kInvalidArgument, "\"" + path + "\" cannot be the path of a unix socket",
                "use at most " + std::to_string(sizeof(address.sun_path) - 1) + " bytes");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// SAFETY: sockaddr_un is passed as the generic sockaddr the calls are declared with.
const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

Result<UniqueFd> unix_socket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return fail_errno("create unix socket", errno);
  return fd;
}

}  // namespace

Result<UniqueFd> connect_unix(const std::string& path) {
  const sockaddr_un address = SM_TRY(unix_address(path));
  UniqueFd fd = SM_TRY(unix_socket());
  if (::connect(fd.get(), generic(address), sizeof(address)) < 0) {
    const int error = errno;
    if (error == EAGAIN || error == ECONNREFUSED || error == ENOENT) {
      return fail(Code::kGone, "connect to " + path + ": " + std::strerror(error));
    }
    return fail_errno("connect to " + path, error);
  }
  return fd;
}

Result<std::unique_ptr<VsockUnixListener>> VsockUnixListener::create(EventLoop& loop, Log& log,
                                                                     std::string path,
                                                                     OnConnection on_connection) {
  const sockaddr_un address = SM_TRY(unix_address(path));
  UniqueFd fd = SM_TRY(unix_socket());
  // Linux makes the socket file with the mode of the socket, so there is no moment in which others
  // could connect, and the process's umask can stay as it is.
  if (::fchmod(fd.get(), S_IRUSR | S_IWUSR) < 0) return fail_errno("chmod unix socket", errno);
  if (::bind(fd.get(), generic(address), sizeof(address)) < 0) {
    if (errno == EADDRINUSE) {
      return fail(Code::kInvalidArgument, path + " exists already",
                  "remove it if nothing uses it, or choose another path");
    }
    return fail_errno("bind " + path, errno);
  }
  std::unique_ptr<VsockUnixListener> listener(
      new VsockUnixListener(loop, log, std::move(path), std::move(fd), std::move(on_connection)));
  SM_TRY_STATUS(listener->remember_file());
  if (::listen(listener->socket_.get(), SOMAXCONN) < 0) {
    return fail_errno("listen on " + listener->path_, errno);
  }
  return listener;
}

VsockUnixListener::VsockUnixListener(EventLoop& loop, Log& log, std::string path, UniqueFd socket,
                                     OnConnection on_connection)
    : loop_(&loop),
      log_(&log),
      path_(std::move(path)),
      socket_(std::move(socket)),
      on_connection_(std::move(on_connection)) {}

VsockUnixListener::~VsockUnixListener() {
  loop_->remove(watch_);
  loop_->cancel_timer(retry_);
  struct stat st {};
  if (file_known_ && ::lstat(path_.c_str(), &st) == 0 && st.st_dev == device_ &&
      st.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
}

Status VsockUnixListener::remember_file() {
  struct stat st {};
  if (::lstat(path_.c_str(), &st) < 0) return fail_errno("stat " + path_, errno);
  if (!S_ISSOCK(st.st_mode)) {
    return fail(Code::kPermission, path_ + " was replaced while it was being created");
  }
  device_ = st.st_dev;
  inode_ = st.st_ino;
  file_known_ = true;
  return {};
}

Status VsockUnixListener::start() {
  if (watch_ != WatchId::kNone) return {};
  watch_ = SM_TRY(loop_->add(socket_.get(), EPOLLIN, [this](std::uint32_t) { accept_some(); }));
  return {};
}

// Only this user and root may talk to the guest, even if somebody changes the file's mode.
bool VsockUnixListener::peer_is_ours(int fd) const {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return false;
  return peer.uid == 0 || peer.uid == ::geteuid();
}

void VsockUnixListener::accept_some() {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    UniqueFd fd(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno != EAGAIN) pause();
      return;
    }
    if (!peer_is_ours(fd.get())) {
      log_->warning("vsock: {}: a connection of another user was refused", path_);
      continue;
    }
    on_connection_(std::move(fd));
  }
}

// Out of descriptors or memory: the queue would wake the loop at once, again and again.
void VsockUnixListener::pause() {
  log_->warning("vsock: {}: {}", path_, Error::from_errno("accept", errno).text());
  loop_->remove(std::exchange(watch_, WatchId::kNone));
  retry_ = loop_->add_timer(now() + kRetryAfter, [this] {
    retry_ = TimerId::kNone;
    if (auto status = start(); !status) {
      log_->error("vsock: {}: {}", path_, status.error().text());
    }
  });
}

}  // namespace sm
