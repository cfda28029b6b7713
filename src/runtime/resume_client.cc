#include "runtime/resume_client.h"

#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

#include <array>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "base/file.h"

namespace sm {

namespace {

using agent::FrameType;

constexpr const char* kRemedy = "discard this VM and restore it anew";
constexpr const char* kDiskRemedy =
    "its file is damaged: put a copy of it back, or remove the VM; debugfs reads what is left of "
    "it";

Result<std::uint64_t> wall_clock_ns() {
  timespec time{};
  if (::clock_gettime(CLOCK_REALTIME, &time) < 0) return fail_errno("clock_gettime", errno);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(time.tv_nsec);
}

// Up to 256 bytes come at once or not at all.
Status draw_seed(agent::ResumeRequest& request) {
  const ssize_t n = ::getrandom(request.seed.data(), request.seed.size(), 0);
  if (n != static_cast<ssize_t>(request.seed.size())) return fail_errno("getrandom", errno);
  return {};
}

Status check_report(const agent::ResumeReport& report, std::uint32_t generation) {
  if (report.generation != generation) {
    return fail(Code::kCorrupt, "resume: the guest's agent answers for generation " +
                                    std::to_string(report.generation) + " instead of " +
                                    std::to_string(generation));
  }
  for (const agent::StepReport& step : report.steps) {
    using agent::ResumeStep;
    const bool needed = step.step == ResumeStep::kRandom || step.step == ResumeStep::kClock ||
                        step.step == ResumeStep::kEnvironment;
    if (needed && step.result != agent::StepResult::kDone) {
      return fail(Code::kCorrupt, "resume: the guest's agent left out a step: " +
                                      std::string(agent::step_name(step.step)));
    }
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<ResumeClient>> ResumeClient::start(EventLoop& loop, UniqueFd socket,
                                                          agent::ResumeRequest request,
                                                          Deadline deadline, OnDone on_done) {
  SM_TRY_STATUS(set_nonblocking(socket.get(), true));
  SM_TRY_STATUS(draw_seed(request));
  request.wall_clock_ns = SM_TRY(wall_clock_ns());
  SM_TRY_STATUS(agent::check_resume(request));
  auto trial = agent::encode_resume(request);
  const std::size_t size = trial.size();
  wipe(trial);
  if (size > agent::kHeaderSize + agent::kMaxPayload) {
    return fail(Code::kInvalidArgument, "environment and secrets are longer than 4 MiB",
                "pass large data through a file");
  }
  std::unique_ptr<ResumeClient> client(
      new ResumeClient(loop, std::move(socket), std::move(request), std::move(on_done)));
  SM_TRY_STATUS(client->watch());
  client->timer_ = loop.add_timer(deadline.at(), [c = client.get()] {
    c->timer_ = TimerId::kNone;
    c->finish(fail(Code::kTimeout, "resume: the guest's agent did not answer in time", kRemedy));
  });
  client->enqueue(agent::encode_hello({}));
  return client;
}

ResumeClient::ResumeClient(EventLoop& loop, UniqueFd socket, agent::ResumeRequest request,
                           OnDone on_done)
    : loop_(loop),
      socket_(std::move(socket)),
      request_(std::move(request)),
      on_done_(std::move(on_done)) {}

ResumeClient::~ResumeClient() {
  loop_.remove(watch_);
  if (timer_ != TimerId::kNone) loop_.cancel_timer(timer_);
}

Status ResumeClient::watch() {
  watch_ = SM_TRY(
      loop_.add(socket_.get(), EPOLLIN, [this](std::uint32_t events) { on_socket(events); }));
  return {};
}

void ResumeClient::enqueue(std::vector<std::byte> frame) {
  out_.insert(out_.end(), frame.begin(), frame.end());
  wipe(frame);
  flush();
}

// A broken connection shows itself on the reading side, where an answer may still be waiting.
void ResumeClient::flush() {
  while (out_start_ < out_.size()) {
    const ssize_t n = ::send(socket_.get(), out_.data() + out_start_, out_.size() - out_start_,
                             MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) break;
    out_start_ += static_cast<std::size_t>(n);
  }
  const bool all = out_start_ == out_.size();
  if (all) {
    SecretBytes().swap(out_);
    out_start_ = 0;
  }
  static_cast<void>(loop_.modify(watch_, EPOLLIN | (all ? 0u : EPOLLOUT)));
}

void ResumeClient::on_socket(std::uint32_t events) {
  if ((events & EPOLLOUT) != 0) flush();
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) read_socket();
}

void ResumeClient::read_socket() {
  std::array<std::byte, 4096> buffer;
  const ssize_t n = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n < 0) return finish(fail(Error::from_errno("resume: connection to the agent", errno)));
  if (n == 0) {
    return finish(fail(Code::kGone, "resume: the guest's agent closed the connection", kRemedy));
  }
  parser_.feed(std::span(buffer).first(static_cast<std::size_t>(n)));
  for (;;) {
    auto frame = parser_.next();
    if (!frame) return finish(fail(std::move(frame).error()));
    if (!frame->has_value()) return;
    const auto last = on_frame(**frame);
    if (!last) return finish(fail(last.error()));
    if (*last) return finish(std::move(report_));
  }
}

Result<bool> ResumeClient::on_frame(const agent::Frame& frame) {
  if (frame.type == FrameType::kError) {
    const auto report = SM_TRY(agent::decode_error(frame.payload));
    if (report.kind == agent::ErrorKind::kRootDisk) {
      return fail(Code::kUnsupported, "the guest refused: " + report.message, kDiskRemedy);
    }
    return fail(Code::kGuest, "the guest refused: " + report.message, kRemedy);
  }
  if (!hello_seen_) {
    SM_TRY_STATUS(on_hello(frame));
    return false;
  }
  if (frame.type != FrameType::kResumed) {
    return fail(Code::kCorrupt, "agent protocol: not an answer to a resume");
  }
  report_ = SM_TRY(agent::decode_resumed(frame.payload));
  SM_TRY_STATUS(check_report(report_, request_.generation));
  return true;
}

Status ResumeClient::on_hello(const agent::Frame& frame) {
  if (frame.type != FrameType::kHello) return fail(Code::kCorrupt, "agent protocol: no hello");
  const agent::Hello hello = SM_TRY(agent::decode_hello(frame.payload));
  if (hello.generation != request_.generation) {
    return fail(Code::kGuest,
                "resume: the guest is in generation " + std::to_string(hello.generation) +
                    ", expected was " + std::to_string(request_.generation),
                kRemedy);
  }
  hello_seen_ = true;
  request_.wall_clock_ns = SM_TRY(wall_clock_ns());
  enqueue(agent::encode_resume(request_));
  wipe(request_.seed);
  wipe(request_.secrets);
  return {};
}

// Nothing is touched after the callback: the client may be gone.
void ResumeClient::finish(Result<agent::ResumeReport> result) {
  loop_.remove(std::exchange(watch_, WatchId::kNone));
  if (timer_ != TimerId::kNone) loop_.cancel_timer(std::exchange(timer_, TimerId::kNone));
  socket_.reset();
  const OnDone done = std::move(on_done_);
  done(std::move(result));
}

Result<agent::ResumeReport> resume_guest(UniqueFd socket, agent::ResumeRequest request,
                                         Deadline deadline) {
  const auto loop = SM_TRY(EventLoop::create());
  std::optional<Result<agent::ResumeReport>> result;
  const auto client =
      SM_TRY(ResumeClient::start(*loop, std::move(socket), std::move(request), deadline,
                                 [&](Result<agent::ResumeReport> r) { result = std::move(r); }));
  while (!result) loop->run_once(deadline);
  return std::move(*result);
}

}  // namespace sm
