#include "runtime/client/agent_link.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "runtime/unix_connect.h"

namespace sm {

namespace {

Code file_code(std::uint32_t errno_value) {
  switch (errno_value) {
    case ENOENT:
    case ENOTDIR:
      return Code::kNotFound;
    case EACCES:
    case EPERM:
    case EROFS:
      return Code::kPermission;
    default:
      return Code::kIo;
  }
}

Code code_of(const agent::ErrorReport& report) {
  switch (report.kind) {
    case agent::ErrorKind::kExecNotFound:
    case agent::ErrorKind::kNoWorkload:
      return Code::kNotFound;
    case agent::ErrorKind::kExecDenied:
      return Code::kPermission;
    case agent::ErrorKind::kUser:
    case agent::ErrorKind::kWorkdir:
    case agent::ErrorKind::kBusy:
    case agent::ErrorKind::kSetting:
      return Code::kInvalidArgument;
    case agent::ErrorKind::kFile:
      return file_code(report.errno_value);
    case agent::ErrorKind::kConnect:
      return Code::kIo;
    case agent::ErrorKind::kResource:
      return Code::kLimit;
    default:
      return Code::kInternal;
  }
}

}  // namespace

Error agent_error(const agent::ErrorReport& report) {
  return Error(code_of(report), report.message);
}

Error lost_connection(const Error& error) {
  return Error(Code::kGone, "the VM cannot be reached: " + error.cause(), error.remedy());
}

Result<std::unique_ptr<AgentLink>> AgentLink::open(EventLoop& loop, const std::string& socket,
                                                   std::vector<std::byte> request,
                                                   Callbacks callbacks) {
  auto fd = connect_unix(socket);
  if (!fd) return fail(lost_connection(fd.error()));
  std::unique_ptr<AgentLink> link(new AgentLink(loop, std::move(*fd), std::move(callbacks)));
  link->watch_ = SM_TRY(loop.add(link->socket_.get(), EPOLLIN,
                                 [l = link.get()](std::uint32_t e) { l->on_events(e); }));
  link->restart_timer();
  // In one packet.
  auto first = agent::encode_hello({});
  first.insert(first.end(), request.begin(), request.end());
  link->send(first);
  return link;
}

AgentLink::AgentLink(EventLoop& loop, UniqueFd socket, Callbacks callbacks)
    : loop_(loop), socket_(std::move(socket)), callbacks_(std::move(callbacks)) {}

AgentLink::~AgentLink() {
  *alive_ = false;
  close();
}

void AgentLink::close() {
  loop_.remove(std::exchange(watch_, WatchId::kNone));
  loop_.cancel_timer(std::exchange(timer_, TimerId::kNone));
}

UniqueFd AgentLink::take() {
  close();
  return std::move(socket_);
}

void AgentLink::restart_timer() {
  loop_.cancel_timer(timer_);
  timer_ = loop_.add_timer(now() + kPatience, [this] {
    timer_ = TimerId::kNone;
    end(Error(Code::kTimeout, "the guest's agent does not answer"));
  });
}

void AgentLink::send(std::span<const std::byte> frame) {
  if (watch_ == WatchId::kNone) return;
  out_.insert(out_.end(), frame.begin(), frame.end());
  flush();
}

void AgentLink::flush() {
  while (out_start_ < out_.size()) {
    const ssize_t n = ::send(socket_.get(), out_.data() + out_start_, out_.size() - out_start_,
                             MSG_NOSIGNAL | MSG_DONTWAIT);
    // A broken connection shows itself on the reading side, where a reason may be waiting.
    if (n < 0) break;
    out_start_ += static_cast<std::size_t>(n);
  }
  if (out_start_ == out_.size()) {
    out_.clear();
    out_start_ = 0;
  }
  // The watch exists; modify fails only when it does not.
  static_cast<void>(loop_.modify(watch_, EPOLLIN | (out_.empty() ? 0u : EPOLLOUT)));
}

void AgentLink::on_events(std::uint32_t events) {
  if ((events & EPOLLOUT) != 0) flush();
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) receive();
}

void AgentLink::receive() {
  std::array<std::byte, agent::kMaxData> buffer;
  const std::shared_ptr<bool> alive = alive_;
  // A frame's header and payload in one turn.
  for (int part = 0; part < 2 && watch_ != WatchId::kNone; ++part) {
    const ssize_t n =
        ::recv(socket_.get(), buffer.data(), std::min(missing_, buffer.size()), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) return end(lost_connection(Error::from_errno("read", errno)));
    if (n == 0) return end(Error(Code::kGone, "the guest's agent closed the connection"));
    auto status = on_bytes(std::span(buffer).first(static_cast<std::size_t>(n)));
    if (!*alive) return;
    if (!status) return end(std::move(status).error());
  }
}

// `bytes` are at most `missing_`.
Status AgentLink::on_bytes(std::span<const std::byte> bytes) {
  parser_.feed(bytes);
  if (in_header_) {
    std::copy(bytes.begin(), bytes.end(),
              header_.begin() + static_cast<std::ptrdiff_t>(header_.size() - missing_));
  }
  missing_ -= bytes.size();
  if (missing_ > 0) return {};
  if (std::exchange(in_header_, !in_header_)) {
    // The parser refuses a length beyond the limits before any of it is read.
    missing_ = *ByteReader(header_).take<std::uint32_t>();
    if (missing_ > 0) {
      SM_TRY(parser_.next());
      return {};
    }
    in_header_ = true;
  }
  missing_ = agent::kHeaderSize;
  const auto frame = SM_TRY(parser_.next());
  if (!frame) return fail(Code::kInternal, "agent protocol: half a frame");
  restart_timer();
  return on_frame(*frame);
}

Status AgentLink::on_frame(const agent::Frame& frame) {
  if (!hello_seen_) {
    if (frame.type != agent::FrameType::kHello) {
      return fail(Code::kCorrupt, "agent protocol: no hello");
    }
    SM_TRY(agent::decode_hello(frame.payload));
    hello_seen_ = true;
    return {};
  }
  if (frame.type == agent::FrameType::kError) {
    return fail(agent_error(SM_TRY(agent::decode_error(frame.payload))));
  }
  return callbacks_.on_frame(frame);
}

void AgentLink::end(Error error) {
  if (watch_ == WatchId::kNone) return;
  close();
  // The callback may destroy the link and itself with it.
  const auto on_end = std::move(callbacks_.on_end);
  on_end(std::move(error));
}

}  // namespace sm
