#include "agent/streams.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "agent/connection.h"

namespace sm::guest {

namespace {

// A grant per keystroke would double the traffic; one per quarter window never lets it run dry.
constexpr std::uint32_t kGrantStep = agent::kInitialWindow / 4;
// What a pty can hold for its reader is less than this.
constexpr std::uint64_t kPtyRest = 1u << 20;
constexpr std::uint64_t kMaxCredit = 1u << 30;

}  // namespace

InputStream::InputStream(Connection& connection, EventLoop& loop)
    : connection_(&connection), loop_(loop) {}

void InputStream::start(UniqueFd fd, bool is_pty) {
  if (closed_) return;
  fd_ = std::move(fd);
  is_pty_ = is_pty;
  watch_ = std::make_unique<FdWatch>(loop_, fd_.get(), [this](std::uint32_t) { pump(); });
  pump();
}

Status InputStream::receive(std::span<const std::byte> bytes) {
  if (bytes.size() > window_) {
    return fail(Code::kLimit, "agent protocol: more data than the window allows");
  }
  if (ending_ && !over_) {
    return fail(Code::kCorrupt, "agent protocol: data after the end of its stream");
  }
  window_ -= static_cast<std::uint32_t>(bytes.size());
  if (closed_ || over_) return {};
  queue_.push(bytes);
  if (fd_.valid()) pump();
  return {};
}

void InputStream::receive_end() {
  ending_ = true;
  if (fd_.valid()) pump();
}

void InputStream::set_connection(Connection* connection) {
  connection_ = connection;
  if (connection == nullptr) return;
  window_ = agent::kInitialWindow;
  owed_ = 0;
  foreign_ = queue_.size();
  over_ = ending_;
}

void InputStream::close() {
  closed_ = true;
  watch_.reset();
  fd_.reset();
  queue_.clear();
}

void InputStream::pump() {
  while (!queue_.empty()) {
    const auto bytes = queue_.front();
    const ssize_t n = ::write(fd_.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return watch_->want(EPOLLOUT);
    // Nobody reads any more.
    if (n < 0) return close();
    line_open_ = bytes[static_cast<std::size_t>(n) - 1] != std::byte{'\n'};
    queue_.pop(static_cast<std::size_t>(n));
    grant(static_cast<std::size_t>(n));
  }
  watch_->want(0);
  if (!ending_) return;
  if (is_pty_) end_pty_input();
  close();
}

void InputStream::grant(std::size_t written) {
  const std::size_t of_others = std::min(written, foreign_);
  foreign_ -= of_others;
  written -= of_others;
  owed_ += static_cast<std::uint32_t>(written);
  if (owed_ < kGrantStep) return;
  window_ += owed_;
  if (connection_ != nullptr) {
    connection_->send(agent::encode_window(agent::Stream::kStdin, owed_));
  }
  owed_ = 0;
}

// A terminal has no end of file, only a character that means it; the first one ends an open line.
void InputStream::end_pty_input() {
  termios settings{};
  if (::tcgetattr(fd_.get(), &settings) < 0 || (settings.c_lflag & ICANON) == 0) return;
  const std::array<cc_t, 2> ends = {settings.c_cc[VEOF], settings.c_cc[VEOF]};
  if (::write(fd_.get(), ends.data(), line_open_ ? 2 : 1) < 0) return;
}

OutputStream::OutputStream(Connection& connection, EventLoop& loop, agent::Stream stream,
                           std::function<void()> on_finished)
    : connection_(&connection),
      loop_(loop),
      stream_(stream),
      on_finished_(std::move(on_finished)) {}

void OutputStream::start(UniqueFd fd, bool is_pty) {
  fd_ = std::move(fd);
  is_pty_ = is_pty;
  watch_ = std::make_unique<FdWatch>(loop_, fd_.get(), [this](std::uint32_t) { pump(); });
  update_watch();
}

void OutputStream::grant(std::uint32_t bytes) {
  credit_ = std::min(credit_ + bytes, kMaxCredit);
  on_room();
}

void OutputStream::on_room() {
  if (!fd_.valid()) return;
  if (process_ended_) {
    pump();
  } else {
    update_watch();
  }
}

void OutputStream::process_ended() {
  if (!fd_.valid() || process_ended_) return;
  process_ended_ = true;
  int waiting = 0;
  remaining_ = kPtyRest;
  if (!is_pty_ && ::ioctl(fd_.get(), FIONREAD, &waiting) == 0) {
    remaining_ = static_cast<std::uint64_t>(waiting);
  }
  pump();
}

// One chunk per turn of the loop while the process runs, so that no stream starves the others;
// after its end as much as the windows take.
void OutputStream::pump() {
  if (!process_ended_) {
    if (read_once()) update_watch();
    return;
  }
  while (fd_.valid()) {
    if (!has_more_now()) return finish();
    if (!has_room()) return watch_->want(0);
    if (!read_once()) return;
  }
}

bool OutputStream::has_more_now() const {
  if (remaining_ == 0) return false;
  pollfd waiting{fd_.get(), POLLIN, 0};
  return ::poll(&waiting, 1, 0) == 1 && (waiting.revents & POLLIN) != 0;
}

// False when the stream has ended.
bool OutputStream::read_once() {
  std::array<std::byte, agent::kMaxData> buffer;
  auto limit = std::uint64_t{buffer.size()};
  if (connection_ != nullptr) limit = std::min(limit, credit_);
  if (process_ended_) limit = std::min(limit, remaining_);
  if (limit == 0) return true;
  const ssize_t n = ::read(fd_.get(), buffer.data(), static_cast<std::size_t>(limit));
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  // EIO is how a pty says that its last user has gone.
  if (n <= 0) {
    finish();
    return false;
  }
  const auto got = static_cast<std::size_t>(n);
  if (process_ended_) remaining_ -= got;
  if (connection_ == nullptr) return true;
  credit_ -= got;
  connection_->send(agent::encode_data(stream_, std::span(buffer).first(got)));
  return true;
}

void OutputStream::set_connection(Connection* connection) {
  connection_ = connection;
  credit_ = agent::kInitialWindow;
  if (connection != nullptr) held_ = false;
  // It ended while nobody could be told.
  if (connection != nullptr && !fd_.valid()) connection->send(agent::encode_data(stream_, {}));
  on_room();
}

void OutputStream::drop() {
  held_ = false;
  on_room();
}

bool OutputStream::has_room() const {
  if (connection_ == nullptr) return !held_;
  return credit_ > 0 && connection_->has_room();
}

void OutputStream::update_watch() { watch_->want(has_room() ? EPOLLIN : 0u); }

void OutputStream::finish() {
  watch_.reset();
  fd_.reset();
  if (connection_ != nullptr) connection_->send(agent::encode_data(stream_, {}));
  on_finished_();
}

}  // namespace sm::guest
