#include "runtime/host_stream.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>

namespace sm {

namespace {

constexpr std::size_t kChunk = 65536;

mode_t type_of(int fd) {
  struct stat st {};
  return ::fstat(fd, &st) == 0 ? st.st_mode & S_IFMT : 0;
}

// A second, non-blocking description of the same pipe or terminal. Setting O_NONBLOCK on the given
// one would change it for every process that shares it, the user's shell included.
UniqueFd reopen_nonblocking(int fd, int mode) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return UniqueFd(::open(path.c_str(), mode | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
}

}  // namespace

OutputStream::OutputStream(EventLoop& loop, int fd, std::function<void(std::size_t)> on_written,
                           std::function<void(Error)> on_broken)
    : loop_(loop), fd_(fd), on_written_(std::move(on_written)), on_broken_(std::move(on_broken)) {
  const mode_t type = type_of(fd);
  if (type == S_IFSOCK) {
    kind_ = Kind::kSocket;
  } else if (type == S_IFIFO || (type == S_IFCHR && ::isatty(fd) == 1)) {
    reopened_ = reopen_nonblocking(fd, O_WRONLY);
    if (reopened_.valid()) {
      fd_ = reopened_.get();
      kind_ = Kind::kPollable;
    }
  }
}

OutputStream::~OutputStream() { loop_.remove(watch_); }

void OutputStream::write(std::span<const std::byte> bytes) {
  if (broken_) return on_written_(bytes.size());
  queue_.insert(queue_.end(), bytes.begin(), bytes.end());
  drain();
}

ssize_t OutputStream::write_some(std::span<const std::byte> bytes) {
  if (kind_ == Kind::kSocket) {
    return ::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  return ::write(fd_, bytes.data(), bytes.size());
}

void OutputStream::drain() {
  std::size_t written = 0;
  int error = 0;
  while (!queue_.empty()) {
    std::array<std::byte, kChunk> chunk;
    const std::size_t n = std::min(queue_.size(), chunk.size());
    std::copy_n(queue_.begin(), n, chunk.begin());
    const ssize_t done = write_some(std::span(chunk).first(n));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) {
      error = errno;
      break;
    }
    queue_.erase(queue_.begin(), queue_.begin() + done);
    written += static_cast<std::size_t>(done);
  }
  if (error != 0 && error != EAGAIN) {
    broken_ = true;
    written += queue_.size();
    queue_.clear();
  }
  want_writable(!queue_.empty());
  if (written > 0) on_written_(written);
  if (broken_) on_broken_(Error::from_errno("write output", error));
}

void OutputStream::want_writable(bool wanted) {
  if (wanted == (watch_ != WatchId::kNone)) return;
  if (!wanted) {
    loop_.remove(watch_);
    watch_ = WatchId::kNone;
    return;
  }
  auto id = loop_.add(fd_, EPOLLOUT, [this](std::uint32_t) { drain(); });
  if (id) watch_ = *id;
}

InputStream::InputStream(EventLoop& loop, int fd, std::function<std::size_t()> room,
                         std::function<void(std::span<const std::byte>)> on_data)
    : loop_(loop), fd_(fd), room_(std::move(room)), on_data_(std::move(on_data)) {
  resume();
}

InputStream::~InputStream() {
  *alive_ = false;
  stop();
}

void InputStream::stop() {
  ended_ = true;
  loop_.remove(watch_);
  watch_ = WatchId::kNone;
}

// A watch exists exactly while there is room: a hung-up pipe would otherwise wake the loop for
// ever.
void InputStream::resume() {
  if (ended_ || room_() == 0 || watch_ != WatchId::kNone) return;
  if (always_ready_) return schedule();
  auto id = loop_.add(fd_, EPOLLIN, [this](std::uint32_t) { read_once(); });
  if (id) {
    watch_ = *id;
    return;
  }
  always_ready_ = true;
  schedule();
}

void InputStream::schedule() {
  if (scheduled_) return;
  scheduled_ = true;
  loop_.post([this, alive = alive_] {
    if (!*alive) return;
    scheduled_ = false;
    if (ended_ || room_() == 0) return;
    read_once();
    if (*alive && !ended_) schedule();
  });
}

void InputStream::read_once() {
  std::array<std::byte, kChunk> buffer;
  const std::size_t room = std::min(room_(), buffer.size());
  ssize_t n = 0;
  if (room > 0) {
    n = ::read(fd_, buffer.data(), room);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (n <= 0) stop();
    const std::shared_ptr<bool> alive = alive_;
    on_data_(std::span(buffer).first(n > 0 ? static_cast<std::size_t>(n) : 0));
    if (!*alive) return;
  }
  if (!ended_ && room_() == 0 && watch_ != WatchId::kNone) {
    loop_.remove(watch_);
    watch_ = WatchId::kNone;
  }
}

}  // namespace sm
