#include "agent/exec_session.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "agent/connection.h"
#include "agent/own_program.h"
#include "agent/server.h"
#include "agent/workload.h"
#include "base/file.h"

namespace sm::guest {

namespace {

using agent::ErrorKind;
using agent::FrameType;
using agent::Stream;

// So long does the output of a main workload that has lost its connection wait for another.
constexpr auto kAttachPatience = std::chrono::seconds(5);

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Result<Pipe> make_pipe() {
  int fds[2] = {-1, -1};
  if (::pipe2(fds, O_CLOEXEC) < 0) return fail_errno("pipe", errno);
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Result<UniqueFd> duplicate(int fd) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return fail_errno("dup", errno);
  return UniqueFd(copy);
}

Status set_window(int pty, const agent::WindowSize& size) {
  winsize value{};
  value.ws_row = size.rows;
  value.ws_col = size.columns;
  if (::ioctl(pty, TIOCSWINSZ, &value) < 0) return fail_errno("set the window size", errno);
  return {};
}

Result<Pipe> make_pty(const agent::WindowSize& size) {
  UniqueFd host = SM_TRY(open_file("/dev/ptmx", O_RDWR | O_NOCTTY));
  int unlock = 0;
  if (::ioctl(host.get(), TIOCSPTLCK, &unlock) < 0) return fail_errno("unlock the pty", errno);
  UniqueFd guest(::ioctl(host.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!guest.valid()) return fail_errno("open the pty's other end", errno);
  SM_TRY_STATUS(set_window(host.get(), size));
  return Pipe{std::move(host), std::move(guest)};
}

std::uint32_t exit_status_for(ErrorKind kind) {
  if (kind == ErrorKind::kExecNotFound) return 127;
  return kind == ErrorKind::kExecDenied ? 126 : 125;
}

}  // namespace

// Both ends of everything, until the child has its own.
struct ExecSession::Pipes {
  UniqueFd guest_in, guest_out, guest_err;
  UniqueFd host_in, host_out, host_err, pty;
};

ExecSession::ExecSession(Connection& connection, const Services& services,
                         agent::ExecRequest request)
    : connection_(&connection),
      services_(services),
      request_(std::move(request)),
      channel_(services.loop, [this](auto report) { on_report(std::move(report)); }),
      stdin_(connection, services.loop),
      stdout_(connection, services.loop, Stream::kStdout, [this] { complete_if_done(); }),
      stderr_(connection, services.loop, Stream::kStderr, [this] { complete_if_done(); }) {}

ExecSession::~ExecSession() {
  if (timer_ != TimerId::kNone) services_.loop.cancel_timer(timer_);
  if (attach_timer_ != TimerId::kNone) services_.loop.cancel_timer(attach_timer_);
  if (pid_ > 0 && !end_) {
    services_.processes.kill_all(pid_);
    services_.processes.forget(pid_);
  }
  if (request_.main) services_.workload.close();
}

void ExecSession::start() {
  if (auto status = try_start(); !status) {
    fail({ErrorKind::kResource, 0, status.error().cause()});
  }
}

ExecPlan ExecSession::make_plan() {
  const ExecDefaults& defaults = services_.workload.defaults();
  ExecPlan plan;
  plan.argv = step_ == 0 ? request_.argv : request_.chain[step_ - 1];
  // The main request's own values are the defaults by now.
  plan.env = services_.workload.environment_for(request_);
  plan.cwd = request_.cwd.empty() ? defaults.cwd : request_.cwd;
  plan.user = request_.user.empty() ? defaults.user : request_.user;
  plan.hostname = services_.workload.hostname();
  plan.tty = request_.tty;
  plan.create_cwd = request_.create_cwd;
  plan.wait_for_release = request_.main;
  plan.output = request_.output;
  plan.files = std::exchange(request_.files, {});
  plan.settings = defaults.settings;
  if (request_.container) plan.machine = request_.container->machine;
  return plan;
}

Status ExecSession::open_streams(Pipes& pipes) const {
  if (request_.detached) return {};
  if (request_.tty) {
    Pipe pty = SM_TRY(make_pty(request_.window));
    // One copy per direction: each has its own place in the event loop.
    pipes.host_in = SM_TRY(duplicate(pty.read.get()));
    pipes.host_out = SM_TRY(duplicate(pty.read.get()));
    pipes.guest_out = SM_TRY(duplicate(pty.write.get()));
    pipes.guest_err = SM_TRY(duplicate(pty.write.get()));
    pipes.guest_in = std::move(pty.write);
    pipes.pty = std::move(pty.read);
    SM_TRY_STATUS(set_nonblocking(pipes.pty.get(), true));
    return {};
  }
  Pipe out = SM_TRY(make_pipe());
  Pipe err = SM_TRY(make_pipe());
  if (request_.keep_stdin) {
    Pipe in = SM_TRY(make_pipe());
    pipes.guest_in = std::move(in.read);
    pipes.host_in = std::move(in.write);
    SM_TRY_STATUS(set_nonblocking(pipes.host_in.get(), true));
  }
  pipes.guest_out = std::move(out.write);
  pipes.guest_err = std::move(err.write);
  pipes.host_out = std::move(out.read);
  pipes.host_err = std::move(err.read);
  SM_TRY_STATUS(set_nonblocking(pipes.host_out.get(), true));
  return set_nonblocking(pipes.host_err.get(), true);
}

Status ExecSession::try_start() {
  auto pipes = std::make_unique<Pipes>();
  SM_TRY_STATUS(open_streams(*pipes));
  pid_ = SM_TRY(start_step(*pipes));
  host_in_ = std::move(pipes->host_in);
  host_out_ = std::move(pipes->host_out);
  host_err_ = std::move(pipes->host_err);
  pty_ = std::move(pipes->pty);
  // Held only as long as another command may need them: whoever holds them hides the streams' end.
  if (!request_.chain.empty()) guest_ends_ = std::move(pipes);
  if (!host_in_.valid()) stdin_.close();
  start_ns_ = monotonic_ns();
  if (!request_.main) arm_timeout();
  return {};
}

Result<pid_t> ExecSession::start_step(const Pipes& pipes) {
  const UniqueFd status = SM_TRY(channel_.open());
  ExecPlan plan = make_plan();
  const ChildDescriptors descriptors{pipes.guest_in.get(), pipes.guest_out.get(),
                                     pipes.guest_err.get(), status.get()};
  auto started = services_.processes.start(
      [&] {
        if (request_.own_program) run_own_program(plan, descriptors);
        run_exec_child(plan, descriptors);
      },
      [this](const ProcessEnd& end) { on_end(end); });
  // The child has its copy.
  wipe(plan.env);
  return started;
}

// True when the chain goes on behind a command that has ended as `end` says.
bool ExecSession::next_step(const ProcessEnd& end) {
  if (step_ == request_.chain.size() || timed_out_ || end.wait_status != 0) return false;
  channel_.drain();
  if (error_) return false;
  peak_rss_kib_ = std::max(peak_rss_kib_, end.peak_rss_kib);
  ++step_;
  auto pid = start_step(*guest_ends_);
  if (step_ == request_.chain.size()) guest_ends_.reset();
  if (!pid) {
    error_ = agent::ErrorReport{ErrorKind::kResource, 0, pid.error().cause()};
    return false;
  }
  pid_ = *pid;
  return true;
}

void ExecSession::arm_timeout() {
  if (request_.timeout_ms == 0) return;
  // Longer than the clock can count means for ever.
  constexpr std::uint64_t kLongest = 10ull * 365 * 24 * 3600 * 1000;
  const auto wait = std::chrono::milliseconds(std::min(request_.timeout_ms, kLongest));
  timer_ = services_.loop.add_timer(now() + wait, [this] { on_timeout(); });
}

void ExecSession::on_timeout() {
  timer_ = TimerId::kNone;
  timed_out_ = true;
  services_.processes.kill_all(pid_);
}

void ExecSession::on_report(std::optional<ChildChannel::Report> report) {
  if (!report) {
    if (!error_ && !started_) on_started();
    return complete_if_done();
  }
  if (report->kind == ChildReport::kError) error_ = std::move(report->error);
  if (report->kind == ChildReport::kPrepared) {
    services_.workload.announce([this] {
      start_ns_ = monotonic_ns();
      arm_timeout();
      channel_.release();
    });
  }
}

void ExecSession::on_started() {
  started_ = true;
  connection_->send(agent::encode_started({.pid = static_cast<std::uint32_t>(pid_)}));
  if (request_.detached) return detach();
  if (host_in_.valid()) stdin_.start(std::move(host_in_), request_.tty);
  stdout_.start(std::move(host_out_), request_.tty);
  if (host_err_.valid()) stderr_.start(std::move(host_err_), false);
  if (request_.main) services_.workload.set_process(pid_);
  for (std::uint32_t signal = 1; signal <= agent::kMaxSignal; ++signal) {
    if ((waiting_signals_ >> (signal - 1) & 1) != 0) {
      services_.processes.signal_group(pid_, static_cast<int>(signal));
    }
  }
}

// The program goes on without its session. A main workload still ends the machine when it ends.
void ExecSession::detach() {
  complete_ = true;
  if (std::exchange(request_.main, false)) {
    services_.workload.set_process(pid_);
    const auto on_end = [&workload = services_.workload](const ProcessEnd& end) {
      const int status = end.wait_status;
      workload.set_status(static_cast<std::uint32_t>(WIFSIGNALED(status) ? 128 + WTERMSIG(status)
                                                                         : WEXITSTATUS(status)));
      workload.close();
    };
    // It may have ended before this was known.
    end_ ? on_end(*end_) : services_.processes.hand_over(pid_, on_end);
  } else {
    services_.processes.forget(pid_);
  }
  pid_ = -1;
  connection_->finish();
}

void ExecSession::on_end(const ProcessEnd& end) {
  if (next_step(end)) return;
  end_ = end;
  end_ns_ = monotonic_ns();
  if (timer_ != TimerId::kNone) services_.loop.cancel_timer(std::exchange(timer_, TimerId::kNone));
  stdin_.close();
  // The channel's end is there by now and tells whether the program ever ran.
  channel_.drain();
  stdout_.process_ended();
  stderr_.process_ended();
  complete_if_done();
}

void ExecSession::complete_if_done() {
  if (complete_ || !end_ || !channel_.closed()) return;
  if (!stdout_.finished() || !stderr_.finished()) return;
  if (error_) return fail(*error_);
  report_exit();
}

void ExecSession::report_exit() {
  complete_ = true;
  agent::ExitReport report;
  report.signalled = WIFSIGNALED(end_->wait_status);
  report.timed_out = timed_out_;
  report.value = static_cast<std::uint32_t>(report.signalled ? WTERMSIG(end_->wait_status)
                                                             : WEXITSTATUS(end_->wait_status));
  report.peak_rss_kib = std::max(peak_rss_kib_, end_->peak_rss_kib);
  report.step = static_cast<std::uint32_t>(step_);
  report.duration_ns = end_ns_ - start_ns_;
  if (request_.main) {
    services_.workload.set_status(report.signalled ? 128 + report.value : report.value);
  }
  if (connection_ == nullptr) return services_.server.drop_kept();
  connection_->send(agent::encode_exit(report));
  connection_->finish(request_.main);
}

void ExecSession::fail(const agent::ErrorReport& error) {
  complete_ = true;
  if (request_.main) services_.workload.set_status(exit_status_for(error.kind));
  if (connection_ == nullptr) return services_.server.drop_kept();
  connection_->finish_with_error(error, request_.main);
}

Status ExecSession::on_frame(const agent::Frame& frame) {
  switch (frame.type) {
    case FrameType::kData:
      return on_data(frame);
    case FrameType::kWindow:
      return on_window(frame);
    case FrameType::kSignal:
      return on_signal(frame);
    case FrameType::kResize:
      return on_resize(frame);
    default:
      return sm::fail(Code::kCorrupt, "agent protocol: a frame that an exec does not know");
  }
}

Status ExecSession::on_data(const agent::Frame& frame) {
  if (frame.stream != static_cast<std::uint8_t>(Stream::kStdin)) {
    return sm::fail(Code::kCorrupt, "agent protocol: data for an output stream");
  }
  if (!frame.payload.empty()) return stdin_.receive(frame.payload);
  stdin_.receive_end();
  return {};
}

Status ExecSession::on_window(const agent::Frame& frame) {
  const std::uint32_t bytes = SM_TRY(agent::decode_u32(frame.payload));
  if (frame.stream == static_cast<std::uint8_t>(Stream::kStdin)) {
    return sm::fail(Code::kCorrupt, "agent protocol: a window for the input stream");
  }
  (frame.stream == static_cast<std::uint8_t>(Stream::kStdout) ? stdout_ : stderr_).grant(bytes);
  return {};
}

Status ExecSession::on_signal(const agent::Frame& frame) {
  const std::uint32_t signal = SM_TRY(agent::decode_signal(frame.payload));
  if (end_) return {};
  if (started_) {
    services_.processes.signal_group(pid_, static_cast<int>(signal));
  } else {
    waiting_signals_ |= 1ull << (signal - 1);
  }
  return {};
}

Status ExecSession::on_resize(const agent::Frame& frame) {
  const agent::WindowSize size = SM_TRY(agent::decode_resize(frame.payload));
  // Without a terminal, or one that has gone, there is nothing to resize.
  if (pty_.valid()) static_cast<void>(set_window(pty_.get(), size));
  return {};
}

void ExecSession::on_room() {
  stdout_.on_room();
  stderr_.on_room();
}

void ExecSession::set_connection(Connection* connection) {
  connection_ = connection;
  stdin_.set_connection(connection);
  stdout_.set_connection(connection);
  stderr_.set_connection(connection);
}

// Its input stays open, without anybody who writes. Its output waits for somebody who attaches to
// it, but not for long.
bool ExecSession::outlive_connection() {
  if (!request_.main || !started_ || complete_) return false;
  stdout_.hold();
  stderr_.hold();
  set_connection(nullptr);
  attach_timer_ = services_.loop.add_timer(now() + kAttachPatience, [this] {
    attach_timer_ = TimerId::kNone;
    stdout_.drop();
    stderr_.drop();
  });
  return true;
}

bool ExecSession::attach(Connection& connection) {
  if (complete_) return false;
  if (attach_timer_ != TimerId::kNone) {
    services_.loop.cancel_timer(std::exchange(attach_timer_, TimerId::kNone));
  }
  connection.send(agent::encode_started({.pid = static_cast<std::uint32_t>(pid_)}));
  set_connection(&connection);
  return true;
}

}  // namespace sm::guest
