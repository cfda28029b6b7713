#include "runtime/exec_session.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/file.h"

namespace sm {

namespace {

// Grants travel in lumps, so that a chatty program does not cost one frame per line.
constexpr std::uint32_t kGrantLump = agent::kInitialWindow / 4;

}  // namespace

Result<std::unique_ptr<ExecSession>> ExecSession::start(EventLoop& loop, UniqueFd socket,
                                                        const agent::ExecRequest& request,
                                                        Callbacks callbacks) {
  auto frame = agent::encode_exec(request);
  if (frame.size() > agent::kHeaderSize + agent::kMaxPayload) {
    return fail(Code::kLimit, "command and environment are longer than 4 MiB",
                "pass large data through standard input or a file");
  }
  return open(loop, std::move(socket), std::move(frame), std::move(callbacks));
}

Result<std::unique_ptr<ExecSession>> ExecSession::attach_main(EventLoop& loop, UniqueFd socket,
                                                              Callbacks callbacks) {
  return open(loop, std::move(socket), agent::encode_attach_main(), std::move(callbacks));
}

Result<std::unique_ptr<ExecSession>> ExecSession::open(EventLoop& loop, UniqueFd socket,
                                                       std::vector<std::byte> request,
                                                       Callbacks callbacks) {
  SM_TRY_STATUS(set_nonblocking(socket.get(), true));
  std::unique_ptr<ExecSession> session(
      new ExecSession(loop, std::move(socket), std::move(callbacks)));
  session->watch_ = SM_TRY(loop.add(session->socket_.get(), EPOLLIN,
                                    [s = session.get()](std::uint32_t e) { s->on_socket(e); }));
  session->enqueue(agent::encode_hello({}));
  session->enqueue(std::move(request));
  return session;
}

ExecSession::ExecSession(EventLoop& loop, UniqueFd socket, Callbacks callbacks)
    : loop_(loop), socket_(std::move(socket)), callbacks_(std::move(callbacks)) {}

ExecSession::~ExecSession() {
  *alive_ = false;
  loop_.remove(watch_);
}

std::size_t ExecSession::stdin_room() const {
  return static_cast<std::size_t>(std::min<std::uint64_t>(stdin_window_, agent::kMaxData));
}

void ExecSession::send_stdin(std::span<const std::byte> bytes) {
  stdin_window_ -= std::min<std::uint64_t>(stdin_window_, bytes.size());
  enqueue(agent::encode_data(agent::Stream::kStdin, bytes));
}

void ExecSession::send_signal(int number) {
  enqueue(agent::encode_signal(static_cast<std::uint32_t>(number)));
}

void ExecSession::send_resize(agent::WindowSize size) { enqueue(agent::encode_resize(size)); }

void ExecSession::consumed(agent::Stream stream, std::size_t n) {
  std::uint32_t& owed = ungranted_[static_cast<std::size_t>(stream)];
  owed += static_cast<std::uint32_t>(n);
  if (owed < kGrantLump || ended_) return;
  output_window_[static_cast<std::size_t>(stream)] += owed;
  enqueue(agent::encode_window(stream, std::exchange(owed, 0)));
}

void ExecSession::enqueue(std::vector<std::byte> frame) {
  if (ended_) return;
  out_.insert(out_.end(), frame.begin(), frame.end());
  flush();
}

// What the socket does not take waits in out_: at most the stdin window, grants and the request.
void ExecSession::flush() {
  while (out_start_ < out_.size()) {
    const ssize_t n = ::send(socket_.get(), out_.data() + out_start_, out_.size() - out_start_,
                             MSG_NOSIGNAL | MSG_DONTWAIT);
    // A broken connection shows itself on the reading side, where frames may still be waiting.
    if (n < 0) break;
    out_start_ += static_cast<std::size_t>(n);
  }
  if (out_start_ == out_.size()) {
    out_.clear();
    out_start_ = 0;
  }
  update_interest();
}

void ExecSession::update_interest() {
  const bool wanted = !out_.empty();
  if (wanted == writable_wanted_ || watch_ == WatchId::kNone) return;
  writable_wanted_ = wanted;
  if (auto status = loop_.modify(watch_, EPOLLIN | (wanted ? EPOLLOUT : 0u)); !status) {
    lose(std::move(status).error());
  }
}

void ExecSession::on_socket(std::uint32_t events) {
  const std::shared_ptr<bool> alive = alive_;
  if ((events & EPOLLOUT) != 0) flush();
  if (*alive && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) read_socket();
}

void ExecSession::read_socket() {
  std::array<std::byte, 65536> buffer;
  const ssize_t n = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n < 0) return lose(Error::from_errno("exec connection", errno));
  if (n == 0) return lose(Error(Code::kGone, "the guest's agent closed the connection"));
  parser_.feed(std::span(buffer).first(static_cast<std::size_t>(n)));
  const std::shared_ptr<bool> alive = alive_;
  while (*alive && !ended_) {
    auto frame = parser_.next();
    if (!frame) return lose(std::move(frame).error());
    if (!frame->has_value()) return;
    auto status = dispatch(**frame);
    if (!*alive) return;
    if (!status) return lose(std::move(status).error());
  }
}

Status ExecSession::take_output(const agent::Frame& frame) {
  if (frame.stream == 0) return fail(Code::kCorrupt, "agent protocol: data on stream 0");
  std::uint64_t& window = output_window_[frame.stream];
  if (frame.payload.size() > window) {
    return fail(Code::kCorrupt, "agent protocol: more output than was granted");
  }
  window -= frame.payload.size();
  callbacks_.on_output(static_cast<agent::Stream>(frame.stream), frame.payload);
  return {};
}

Status ExecSession::grant_stdin(const agent::Frame& frame) {
  const std::uint32_t more = SM_TRY(agent::decode_u32(frame.payload));
  const bool was_empty = stdin_window_ == 0;
  stdin_window_ = std::min<std::uint64_t>(stdin_window_ + more, agent::kInitialWindow);
  if (was_empty && stdin_window_ > 0) callbacks_.on_stdin_room();
  return {};
}

// Handles one frame. After a final frame the session may be gone: nothing is touched after the
// callback.
Result<bool> ExecSession::dispatch(const agent::Frame& frame) {
  using agent::FrameType;
  if (!hello_seen_) {
    if (frame.type != FrameType::kHello) return fail(Code::kCorrupt, "agent protocol: no hello");
    SM_TRY(agent::decode_hello(frame.payload));
    hello_seen_ = true;
    return true;
  }
  switch (frame.type) {
    case FrameType::kStarted: {
      const auto started = SM_TRY(agent::decode_started(frame.payload));
      if (std::exchange(started_, true)) {
        return fail(Code::kCorrupt, "agent protocol: a program started twice");
      }
      callbacks_.on_started(started);
      return true;
    }
    case FrameType::kData: {
      SM_TRY_STATUS(take_output(frame));
      return true;
    }
    case FrameType::kWindow: {
      SM_TRY_STATUS(grant_stdin(frame));
      return true;
    }
    case FrameType::kExit: {
      const auto report = SM_TRY(agent::decode_exit(frame.payload));
      end();
      callbacks_.on_exit(report);
      return false;
    }
    case FrameType::kError: {
      const auto report = SM_TRY(agent::decode_error(frame.payload));
      end();
      callbacks_.on_refused(report);
      return false;
    }
    default:
      return fail(Code::kCorrupt, "agent protocol: a frame the agent never sends");
  }
}

// No event of the connection matters any more; it stays open until the session is destroyed.
void ExecSession::end() {
  ended_ = true;
  loop_.remove(std::exchange(watch_, WatchId::kNone));
}

void ExecSession::lose(Error error) {
  if (ended_) return;
  end();
  callbacks_.on_lost(std::move(error));
}

}  // namespace sm
