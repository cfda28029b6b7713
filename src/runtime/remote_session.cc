#include "runtime/remote_session.h"

#include <signal.h>
#include <unistd.h>

#include <utility>

#include "runtime/detach_keys.h"
#include "runtime/exec_session.h"
#include "runtime/standard_streams.h"

namespace sm {

namespace {

class RemoteSession {
 public:
  RemoteSession(EventLoop& loop, const agent::ExecRequest& request, const RemoteOptions& options,
                const SessionSignals& signals)
      : loop_(loop),
        request_(request),
        options_(options),
        signals_(signals),
        streams_(loop,
                 {.on_written =
                      [this](agent::Stream stream, std::size_t n) {
                        if (exec_) exec_->consumed(stream, n);
                        finish_when_drained();
                      },
                  .on_broken = [this] { end(128 + SIGPIPE); },
                  .input_room = [this] { return exec_ && !exited_ ? exec_->stdin_room() : 0; },
                  .on_input = [this](auto bytes) { on_input(bytes); }}) {}

  SessionOutcome run(UniqueFd socket) {
    if (auto started = start(std::move(socket)); !started) {
      return {125, std::move(started).error()};
    }
    loop_.run();
    streams_.release();
    exec_.reset();
    return std::move(outcome_);
  }

 private:
  Status start(UniqueFd socket) {
    SM_TRY(loop_.add(signals_.fd(), EPOLLIN, [this](std::uint32_t) { on_signal(); }));
    exec_ = SM_TRY(ExecSession::start(
        loop_, std::move(socket), request_,
        {.on_started = [this](agent::Started) { on_started(); },
         .on_output = [this](auto stream, auto bytes) { streams_.write(stream, bytes); },
         .on_stdin_room = [this] { streams_.resume_input(); },
         .on_exit =
             [this](const agent::ExitReport& r) {
               exited_ = true;
               outcome_ = {static_cast<int>(r.signalled ? 128 + r.value : r.value) & 0xFF, {}};
               finish_when_drained();
             },
         .on_refused =
             [this](const agent::ErrorReport& r) {
               const bool missing = r.kind == agent::ErrorKind::kExecNotFound;
               fail_with(Error(missing ? Code::kNotFound : Code::kGuest, r.message),
                         refusal_status(r.kind));
             },
         .on_lost = [this](Error error) { on_lost(std::move(error)); }}));
    return {};
  }

  void on_lost(Error error) {
    if (error.code() != Code::kGone) return fail_with(std::move(error), 125);
    if (running_) return fail_with(Error(Code::kGone, "the VM has ended"), 128 + SIGKILL);
    fail_with(Error(Code::kGone, "the guest did not start the program: it has ended or hangs",
                    "see `supermachine ps -a`; `supermachine rm -f` ends a VM that hangs"),
              128 + SIGKILL);
  }

  void on_started() {
    running_ = true;
    if (request_.tty) {
      if (const auto size = window_size(STDOUT_FILENO)) exec_->send_resize(*size);
    }
    if (auto status = streams_.start(options_.input, request_.tty); !status) {
      fail_with(std::move(status).error(), 125);
    }
  }

  void on_input(std::span<const std::byte> bytes) {
    if (!exec_ || exited_) return;
    if (!options_.detach_keys || bytes.empty()) return exec_->send_stdin(bytes);
    std::vector<std::byte> out;
    const bool let_go = keys_.filter(bytes, out);
    if (!out.empty()) exec_->send_stdin(out);
    if (let_go) end(0);
  }

  void on_signal() {
    const int number = signals_.next();
    if (number == 0 || !exec_ || exited_) return;
    if (number == SIGWINCH) {
      const auto size = window_size(STDOUT_FILENO);
      if (running_ && request_.tty && size) exec_->send_resize(*size);
      return;
    }
    const bool wants_end = number == SIGINT || number == SIGTERM || number == SIGHUP;
    if (wants_end && (!running_ || !options_.signals || ++end_requests_ >= 3)) {
      return end(128 + number);
    }
    if (options_.signals) exec_->send_signal(number);
  }

  void fail_with(Error error, int status) {
    outcome_ = {status, std::move(error)};
    loop_.stop();
  }
  void end(int status) {
    outcome_ = {status, {}};
    loop_.stop();
  }
  void finish_when_drained() {
    if (exited_ && streams_.drained()) loop_.stop();
  }

  EventLoop& loop_;
  const agent::ExecRequest& request_;
  const RemoteOptions options_;
  const SessionSignals& signals_;
  std::unique_ptr<ExecSession> exec_;
  StandardStreams streams_;
  DetachKeys keys_;
  SessionOutcome outcome_;
  bool running_ = false;
  bool exited_ = false;
  int end_requests_ = 0;
};

}  // namespace

SessionOutcome run_remote(UniqueFd socket, const agent::ExecRequest& request,
                          const RemoteOptions& options, const SessionSignals& signals) {
  auto loop = EventLoop::create();
  if (!loop) return {125, std::move(loop).error()};
  return RemoteSession(**loop, request, options, signals).run(std::move(socket));
}

}  // namespace sm
