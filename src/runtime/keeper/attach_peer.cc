#include "runtime/keeper/attach_peer.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace sm {

namespace {

std::size_t index_of(agent::Stream stream) { return stream == agent::Stream::kStderr ? 1 : 0; }

template <class T>
void append(std::vector<std::byte>& to, const T& bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}

}  // namespace

Result<std::unique_ptr<AttachPeer>> AttachPeer::start(EventLoop& loop, SessionControl& control,
                                                      UniqueFd socket,
                                                      std::function<void()> on_end) {
  std::unique_ptr<AttachPeer> out(
      new AttachPeer(loop, control, std::move(socket), std::move(on_end)));
  out->watch_ = SM_TRY(
      loop.add(out->socket_.get(), EPOLLIN, [p = out.get()](std::uint32_t e) { p->on_events(e); }));
  append(out->out_, agent::encode_hello({}));
  out->flush();
  return out;
}

AttachPeer::~AttachPeer() { loop_.remove(watch_); }

void AttachPeer::output(agent::Stream stream, std::span<const std::byte> bytes) {
  if (gone_ || !asked_) return;
  append(backlog_[index_of(stream)], bytes);
  if (backlog_[0].size() + backlog_[1].size() > kMaxBacklog) return leave();
  fill();
  flush();
}

// As much of the backlog as the reader has granted, as frames.
void AttachPeer::fill() {
  for (std::size_t i = 0; i < 2; ++i) {
    auto& from = backlog_[i];
    const auto stream = i == 0 ? agent::Stream::kStdout : agent::Stream::kStderr;
    std::size_t at = 0;
    while (at < from.size() && window_[i] > 0) {
      const std::size_t n = std::min({from.size() - at, static_cast<std::size_t>(window_[i]),
                                      static_cast<std::size_t>(agent::kMaxData)});
      append(out_, agent::encode_data(stream, std::span(from).subspan(at, n)));
      at += n;
      window_[i] -= n;
    }
    from.erase(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(at));
  }
  const bool empty = backlog_[0].empty() && backlog_[1].empty();
  if (empty && !exit_frame_.empty()) {
    append(out_, std::exchange(exit_frame_, {}));
    exit_sent_ = true;
  }
}

void AttachPeer::flush() {
  while (!gone_ && !out_.empty()) {
    const ssize_t n = ::send(socket_.get(), out_.data(), out_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) return leave();
    if (n < 0) break;
    out_.erase(out_.begin(), out_.begin() + n);
  }
  const bool wanted = !out_.empty();
  if (gone_ || wanted == wants_room_) return;
  wants_room_ = wanted;
  if (!loop_.modify(watch_, EPOLLIN | (wanted ? EPOLLOUT : 0u))) leave();
}

void AttachPeer::on_events(std::uint32_t events) {
  if ((events & EPOLLOUT) != 0) flush();
  if (!gone_ && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !receive()) leave();
}

// False: the connection is over.
bool AttachPeer::receive() {
  std::array<std::byte, 64u << 10> buffer;
  const ssize_t n = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n == 0) return false;
  parser_.feed(std::span(buffer).first(static_cast<std::size_t>(n)));
  while (!gone_) {
    auto frame = parser_.next();
    if (!frame) return false;
    if (!frame->has_value()) break;
    if (!on_frame(**frame)) return false;
  }
  return true;
}

Status AttachPeer::on_frame(const agent::Frame& frame) {
  using agent::FrameType;
  switch (frame.type) {
    case FrameType::kHello:
      SM_TRY(agent::decode_hello(frame.payload));
      return {};
    case FrameType::kExec:  // what it would start, did it speak to an agent
      if (std::exchange(asked_, true)) break;
      append(out_, agent::encode_started({}));
      fill();
      flush();
      return {};
    case FrameType::kData:
      return on_input(frame);
    case FrameType::kWindow: {
      if (frame.stream != 1 && frame.stream != 2) break;
      window_[frame.stream - 1u] += SM_TRY(agent::decode_u32(frame.payload));
      fill();
      flush();
      return {};
    }
    case FrameType::kSignal:
      control_.signal(static_cast<int>(SM_TRY(agent::decode_u32(frame.payload)) & 0x7F));
      return {};
    case FrameType::kResize:
      control_.resize(SM_TRY(agent::decode_resize(frame.payload)));
      return {};
    default:
      break;
  }
  return fail(Code::kCorrupt, "agent protocol: a frame that an attached one never sends");
}

// The end of one reader's input is not the end of the command's.
Status AttachPeer::on_input(const agent::Frame& frame) {
  if (frame.stream != 0 || input_.size() + frame.payload.size() > agent::kInitialWindow) {
    return fail(Code::kCorrupt, "agent protocol: more input than was granted");
  }
  append(input_, frame.payload);
  on_input_room();
  return {};
}

void AttachPeer::on_input_room() {
  std::uint32_t taken = 0;
  while (!input_.empty()) {
    const std::size_t n = std::min(input_.size(), control_.input_room());
    if (n == 0) break;
    control_.input(std::span(input_).first(n));
    input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(n));
    taken += static_cast<std::uint32_t>(n);
  }
  if (taken == 0 || gone_) return;
  append(out_, agent::encode_window(agent::Stream::kStdin, taken));
  flush();
}

void AttachPeer::finish(const agent::ExitReport& report) {
  exit_frame_ = agent::encode_exit(report);
  fill();
  flush();
}

bool AttachPeer::drained() const { return gone_ || (exit_sent_ && out_.empty()); }

void AttachPeer::leave() {
  if (std::exchange(gone_, true)) return;
  loop_.remove(std::exchange(watch_, WatchId::kNone));
  on_end_();
}

}  // namespace sm
