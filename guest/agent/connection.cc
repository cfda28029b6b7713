#include "agent/connection.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "agent/exec_session.h"
#include "agent/file_session.h"
#include "agent/resume_session.h"
#include "agent/server.h"
#include "base/clock.h"
#include "base/wipe.h"

namespace sm::guest {

namespace {

using agent::ErrorKind;
using agent::FrameType;

// Output above this waits in its pipe.
constexpr std::size_t kHighWater = 256u << 10;

}  // namespace

Connection::Connection(const Services& services, UniqueFd socket, std::uint64_t id)
    : services_(services),
      socket_(std::move(socket)),
      id_(id),
      generation_(services.server.generation()) {
  watch_ = std::make_unique<FdWatch>(services_.loop, socket_.get(),
                                     [this](std::uint32_t events) { on_events(events); });
}

Connection::~Connection() { cancel_timer(); }

void Connection::start() {
  send(agent::encode_hello({.generation = generation_}));
  set_timer(now() + services_.server.options().request_timeout);
  update_watch();
}

bool Connection::has_room() const { return out_.size() < kHighWater; }

void Connection::send(std::span<const std::byte> frame) {
  if (state_ == State::kClosed) return;
  out_.push(frame);
  update_watch();
}

void Connection::finish(bool wait_without_limit) {
  if (state_ == State::kFinishing || state_ == State::kClosed) return;
  state_ = State::kFinishing;
  wait_without_limit_ = wait_without_limit;
  cancel_timer();
  // The next writable event flushes and shuts down.
  update_watch();
}

void Connection::finish_with_error(const agent::ErrorReport& report, bool wait_without_limit) {
  send(agent::encode_error(report));
  finish(wait_without_limit);
}

void Connection::update_watch() {
  if (state_ == State::kClosed) return;
  const bool wants_out = !out_.empty() || (state_ == State::kFinishing && !shut_down_);
  watch_->want(EPOLLIN | (wants_out ? EPOLLOUT : 0u));
}

void Connection::on_events(std::uint32_t events) {
  // Input first: what is said to it goes out together with what waits already.
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) receive();
  if (state_ != State::kClosed && (events & EPOLLOUT) != 0) flush();
}

void Connection::flush() {
  const bool had_room = has_room();
  while (!out_.empty()) {
    const auto bytes = out_.front();
    const ssize_t n = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) return close();
    out_.pop(static_cast<std::size_t>(n));
  }
  if (out_.empty() && state_ == State::kFinishing && !shut_down_) {
    shut_down_ = true;
    ::shutdown(socket_.get(), SHUT_WR);
    if (!wait_without_limit_) set_timer(now() + services_.server.options().close_timeout);
  }
  update_watch();
  if (!had_room && has_room() && session_ && state_ == State::kServing) session_->on_room();
}

void Connection::receive() {
  std::array<std::byte, 65536> buffer;
  const ssize_t n = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) return close();
  // Behind the last frame the peer may still send what was under way.
  if (state_ == State::kFinishing) return;
  const auto received = std::span(buffer).first(static_cast<std::size_t>(n));
  parser_.feed(received);
  // It may be a part of a resume with its secrets; what follows a request is none.
  if (state_ != State::kServing) wipe(received);
  handle_frames();
}

void Connection::handle_frames() {
  while (state_ != State::kFinishing && state_ != State::kClosed) {
    auto frame = parser_.next();
    if (!frame) return break_protocol(frame.error());
    if (!*frame) return;
    if (auto status = handle_frame(std::move(**frame)); !status) {
      return break_protocol(status.error());
    }
  }
}

Status Connection::handle_frame(agent::Frame frame) {
  switch (state_) {
    case State::kHello: {
      if (frame.type != FrameType::kHello) {
        return fail(Code::kCorrupt, "agent protocol: the first frame is not a hello");
      }
      SM_TRY(agent::decode_hello(frame.payload));
      state_ = State::kRequest;
      return {};
    }
    case State::kRequest:
      return handle_request(frame);
    case State::kServing:
      return session_->on_frame(frame);
    case State::kFinishing:
    case State::kClosed:
      break;
  }
  return {};
}

Status Connection::handle_request(agent::Frame& frame) {
  cancel_timer();
  if (frame.type == FrameType::kResume) return start_resume(frame);
  if (services_.server.needs_resume()) {
    refuse_until_resumed();
    return {};
  }
  switch (frame.type) {
    case FrameType::kExec:
      return start_exec(frame);
    case FrameType::kReadFile:
    case FrameType::kWriteFile:
      return start_file(frame);
    case FrameType::kForward:
      return start_forward(frame);
    case FrameType::kSignalMain:
      return signal_main(frame);
    case FrameType::kAttachMain:
      return attach_main(frame);
    default:
      return fail(Code::kCorrupt, "agent protocol: not a request");
  }
}

Status Connection::start_exec(const agent::Frame& frame) {
  agent::ExecRequest request = SM_TRY(agent::decode_exec(frame.payload));
  if (request.main && !services_.workload.claim(request)) {
    finish_with_error({ErrorKind::kBusy, 0, "this machine already has its main workload"});
    return {};
  }
  state_ = State::kServing;
  auto session = std::make_unique<ExecSession>(*this, services_, std::move(request));
  ExecSession& exec = *session;
  session_ = std::move(session);
  exec.start();
  return {};
}

Status Connection::signal_main(const agent::Frame& frame) {
  const std::uint32_t number = SM_TRY(agent::decode_signal(frame.payload));
  if (!services_.workload.signal(static_cast<int>(number))) {
    finish_with_error({ErrorKind::kNoWorkload, 0, "this machine has no main workload that runs"});
    return {};
  }
  send(agent::encode_done());
  finish();
  return {};
}

Status Connection::attach_main(const agent::Frame& frame) {
  if (!frame.payload.empty()) return fail(Code::kCorrupt, "agent protocol: malformed attach");
  auto session = services_.server.take_kept();
  // Before it is attached: one that has ended meanwhile is complete at once.
  state_ = State::kServing;
  if (!session || !session->attach(*this)) {
    finish_with_error(
        {ErrorKind::kNoWorkload, 0, "no main workload of this machine waits for a connection"});
    return {};
  }
  session_ = std::move(session);
  return {};
}

Status Connection::start_file(const agent::Frame& frame) {
  agent::FileRequest request = SM_TRY(agent::decode_file(frame.payload));
  state_ = State::kServing;
  auto session = std::make_unique<FileSession>(*this, services_, frame.type, std::move(request));
  FileSession& file = *session;
  session_ = std::move(session);
  file.start();
  return {};
}

Status Connection::start_forward(const agent::Frame& frame) {
  const std::uint32_t port = SM_TRY(agent::decode_u32(frame.payload));
  if (port == 0 || port > 65535) return fail(Code::kCorrupt, "agent protocol: malformed port");
  const auto unsent = out_.front();
  std::vector<std::byte> rest(unsent.begin(), unsent.end());
  watch_.reset();
  state_ = State::kClosed;
  services_.server.forward(std::move(socket_), std::move(rest), parser_.take_rest(),
                           static_cast<std::uint16_t>(port));
  services_.server.retire(id_);
  return {};
}

Status Connection::start_resume(agent::Frame& frame) {
  auto request = agent::decode_resume(frame.payload);
  wipe(frame.payload);
  if (!request) return fail(std::move(request).error());
  state_ = State::kServing;
  auto session = std::make_unique<ResumeSession>(*this, services_, std::move(*request));
  ResumeSession& resume = *session;
  session_ = std::move(session);
  resume.start();
  return {};
}

void Connection::refuse_until_resumed() {
  finish_with_error({ErrorKind::kResume, 0,
                     "this machine was restored from a snapshot and waits for its resume"});
}

void Connection::break_protocol(const Error& error) {
  // Ends what runs, as a lost connection does.
  session_.reset();
  finish_with_error({ErrorKind::kProtocol, 0, error.cause()});
}

void Connection::set_timer(TimePoint at) {
  cancel_timer();
  timer_ = services_.loop.add_timer(at, [this] {
    timer_ = TimerId::kNone;
    close();
  });
}

void Connection::cancel_timer() {
  if (timer_ != TimerId::kNone) services_.loop.cancel_timer(std::exchange(timer_, TimerId::kNone));
}

void Connection::close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  cancel_timer();
  watch_.reset();
  const bool copied = services_.server.generation() != generation_;
  if (copied && session_ && session_->outlive_connection()) {
    services_.server.keep(std::move(session_));
  }
  session_.reset();
  socket_.reset();
  services_.server.retire(id_);
}

}  // namespace sm::guest
