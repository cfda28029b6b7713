#include "runtime/run_session.h"

#include <signal.h>
#include <unistd.h>

#include <map>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "runtime/client/main_signal.h"
#include "runtime/exec_session.h"
#include "runtime/resume_client.h"
#include "runtime/standard_streams.h"
#include "runtime/terminal.h"
#include "runtime/unix_connect.h"
#include "runtime/vm/vm_saver.h"
#include "runtime/worker_report.h"

namespace sm {

namespace {

// So many requests to end without an end mean: now, without asking the guest.
constexpr int kImpatience = 3;

bool asks_for_end(int number) {
  return number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGKILL;
}

class Session final : public SessionControl {
 public:
  Session(const SessionConfig& config, const SessionSignals& signals, EventLoop& loop)
      : config_(config),
        loop_(loop),
        signals_(signals),
        streams_(loop,
                 {.on_written =
                      [this](agent::Stream stream, std::size_t n) {
                        if (exec_) exec_->consumed(stream, n);
                        finish_when_drained();
                      },
                  // What SIGPIPE would do to a local program.
                  .on_broken = [this] { end_by_signal(SIGPIPE); },
                  .input_room = [this] { return exec_ && !exited_ ? exec_->stdin_room() : 0; },
                  .on_input =
                      [this](std::span<const std::byte> bytes) {
                        if (exec_) exec_->send_stdin(bytes);
                      }}) {}

  SessionOutcome run();

  bool running() const override { return exec_ && running_ && !exited_; }
  void signal(int number) override;
  void end(int number) override;
  void pause(bool pause, std::function<void(Status)> done) override;
  void save(SnapshotTarget target, SnapshotOrder::OnDone done) override {
    saver_->save(std::move(target), /*stay_paused=*/false, std::move(done));
  }
  pid_t worker_pid() const override { return worker_ ? worker_->pid() : 0; }
  std::size_t input_room() const override {
    return running() && config_.request.keep_stdin ? exec_->stdin_room() : 0;
  }
  void input(std::span<const std::byte> bytes) override {
    if (running()) exec_->send_stdin(bytes);
  }
  void resize(agent::WindowSize size) override {
    if (running()) exec_->send_resize(size);
  }

 private:
  void guarded_start();
  SessionOutcome outcome();
  void on_answer(std::uint64_t id, const Status& status);
  void on_done(const control::Done& done);
  void on_refused(const control::Refused& refused);
  Status start();
  void on_event(const control::Event& event);
  void on_worker_exit(int status);
  void bake(const SnapshotTarget& target, std::unique_ptr<SnapshotOrder>& order);
  std::vector<SnapshotOrder*> orders() const;
  void open_agent();
  void resume_guest();
  void open_exec();
  void attach_workload();
  void on_started();
  void on_output(agent::Stream stream, std::span<const std::byte> bytes);
  void on_refused(const agent::ErrorReport& report);
  void on_signal();
  void signal_workload(int number);
  void end_by_signal(int number);
  void set_error(Error error);
  void set_status(int status);
  void finish();
  void finish_when_drained();

  const SessionConfig& config_;
  EventLoop& loop_;
  const SessionSignals& signals_;
  std::unique_ptr<WorkerProcess> worker_;
  std::unique_ptr<SnapshotOrder> kernel_bake_, bake_;  // before the worker goes
  std::unique_ptr<VmSaver> saver_;                     // likewise
  std::unique_ptr<ResumeClient> resume_;
  std::unique_ptr<ExecSession> exec_;
  std::map<std::uint64_t, std::unique_ptr<MainSignal>> signals_sent_;  // without an answer yet
  std::uint64_t next_signal_ = 0;
  TimerId kill_timer_ = TimerId::kNone;
  StandardStreams streams_;
  TimerId start_timer_ = TimerId::kNone;
  std::optional<int> status_;
  std::optional<Error> error_;
  int refused_status_ = 0;  // the agent could not start it: 125, 126 or 127
  bool exec_opened_ = false;
  bool attached_ = false;  // only_wait: its streams are ours
  bool disk_refused_ = false;
  bool running_ = false;  // the workload has been started
  bool exited_ = false;   // its exit report is here, output may still be draining
  bool finishing_ = false;
  int end_requests_ = 0;
  std::map<std::uint64_t, std::function<void(Status)>> pauses_;  // by the request's id
};

SessionOutcome Session::run() {
  if (config_.guardian == nullptr) {
    guarded_start();
    return outcome();
  }
  if (auto status = config_.guardian->on_begin(loop_, *this); !status) {
    set_error(std::move(status).error());
    return outcome();
  }
  guarded_start();
  SessionOutcome end = outcome();
  config_.guardian->on_end(end);
  return end;
}

void Session::guarded_start() {
  if (auto status = start(); !status) {
    set_error(std::move(status).error());
  } else {
    loop_.run();
  }
  // Who waits for a snapshot is told.
  saver_.reset();
  streams_.release();
  resume_.reset();
  signals_sent_.clear();
  exec_.reset();
}

SessionOutcome Session::outcome() {
  const bool asked = end_requests_ > 0;
  if (status_) return {*status_, std::nullopt, asked, false};
  return {refused_status_ != 0 ? refused_status_ : 125, std::move(error_), asked,
          config_.resume && !exec_opened_ && !disk_refused_};
}

Status Session::start() {
  SM_TRY(loop_.add(signals_.fd(), EPOLLIN, [this](std::uint32_t) { on_signal(); }));
  worker_ = SM_TRY(
      WorkerProcess::spawn(loop_, config_.worker,
                           {.on_event = [this](const control::Event& e) { on_event(e); },
                            .on_failure = [this](Error e) { set_error(std::move(e)); },
                            .on_done = [this](const control::Done& d) { on_done(d); },
                            .on_refused = [this](const control::Refused& r) { on_refused(r); },
                            .on_exit = [this](int s) { on_worker_exit(s); }}));
  saver_ = std::make_unique<VmSaver>(loop_, *worker_);
  start_timer_ = loop_.add_timer(now() + config_.start_deadline, [this] {
    set_error(Error(Code::kTimeout, "the VM did not start the command in time",
                    "see `supermachine doctor`; the guest's console said:\n" +
                        last_lines(config_.console_log)));
    worker_->kill();
  });
  return {};
}

void Session::on_event(const control::Event& event) {
  if (event.name == control::EventName::kStarted) return open_agent();
  if (event.name == control::EventName::kImageAwaited && config_.kernel_bake) {
    return bake(*config_.kernel_bake, kernel_bake_);
  }
  if (event.name == control::EventName::kAgentReady && config_.bake) {
    return bake(*config_.bake, bake_);
  }
  // With its streams, its end is known when they are.
  const bool told = config_.only_wait && !(attached_ && exited_);
  if (event.name == control::EventName::kWorkloadExit && told) {
    exited_ = true;
    if (event.argument > 255) {
      set_error(Error(Code::kGuest, "the guest reports " + std::to_string(event.argument) +
                                        " as its command's exit status"));
    } else {
      set_status(static_cast<int>(event.argument));
    }
    // The guest may not come to its end.
    return finish();
  }
  if (event.name == control::EventName::kFatal) {
    set_error(Error(Code::kGuest,
                    "the guest could not start (code " + std::to_string(event.argument) + ")",
                    "its console said:\n" + last_lines(config_.console_log)));
  }
}

// The guest stands still until the worker has an answer. A snapshot that fails is no reason for the
// run to fail: the next one tries again.
void Session::bake(const SnapshotTarget& target, std::unique_ptr<SnapshotOrder>& order) {
  // A guest may say the same twice.
  auto started = order ? fail(Code::kGuest, "saved already")
                       : SnapshotOrder::start(loop_, *worker_, target, [](const auto&) {});
  if (started) {
    order = std::move(*started);
  } else {
    worker_->request(control::PauseRequest{.id = worker_->next_request_id(), .pause = false});
  }
}

std::vector<SnapshotOrder*> Session::orders() const {
  std::vector<SnapshotOrder*> out;
  for (SnapshotOrder* order : {kernel_bake_.get(), bake_.get()}) {
    if (order != nullptr) out.push_back(order);
  }
  return out;
}

void Session::open_agent() { config_.resume ? resume_guest() : open_exec(); }

// A restored guest is told who it is before anything else.
void Session::resume_guest() {
  const auto on_done = [this](Result<agent::ResumeReport> report) {
    if (report) return open_exec();
    // No other snapshot would help it.
    disk_refused_ =
        report.error().code() == Code::kUnsupported && !config_.resume->root_disk.empty();
    set_error(std::move(report).error().with("restore"));
    finish();
  };
  auto socket = connect_unix(config_.exec_socket);
  auto client = socket ? ResumeClient::start(loop_, std::move(*socket), *config_.resume,
                                             Deadline::after(config_.start_deadline), on_done)
                       : fail(std::move(socket).error());
  if (!client) return on_done(fail(std::move(client).error()));
  resume_ = std::move(*client);
}

void Session::open_exec() {
  if (config_.only_wait) {
    exec_opened_ = true;
    loop_.cancel_timer(std::exchange(start_timer_, TimerId::kNone));
    return attach_workload();
  }
  auto socket = connect_unix(config_.exec_socket);
  auto session = socket ? ExecSession::start(
                              loop_, std::move(*socket), config_.request,
                              {.on_started = [this](agent::Started) { on_started(); },
                               .on_output = [this](auto s, auto b) { on_output(s, b); },
                               .on_stdin_room =
                                   [this] {
                                     streams_.resume_input();
                                     if (config_.guardian) config_.guardian->on_input_room();
                                   },
                               .on_exit =
                                   [this](agent::ExitReport r) {
                                     exited_ = true;
                                     set_status(r.signalled ? 128 + static_cast<int>(r.value)
                                                            : static_cast<int>(r.value));
                                     finish_when_drained();
                                   },
                               .on_refused = [this](const agent::ErrorReport& r) { on_refused(r); },
                               .on_lost =
                                   [this](Error e) {
                                     // The worker's end, which follows, may know better.
                                     if (!error_) error_ = std::move(e);
                                     finish();
                                   }})
                        : fail(std::move(socket).error());
  if (!session) {
    set_error(std::move(session).error());
    return finish();
  }
  exec_ = std::move(*session);
  exec_opened_ = true;
}

// One that had a connection when it was saved goes on here as if it had just been started. Where
// there is none, or the agent is too old for the question, its end is all that is heard of it.
void Session::attach_workload() {
  const auto without = [this] { loop_.post([this] { exec_.reset(); }); };
  auto socket = connect_unix(config_.exec_socket);
  if (!socket) return;
  auto session = ExecSession::attach_main(
      loop_, *std::move(socket),
      {.on_started =
           [this](agent::Started) {
             attached_ = true;
             const agent::ExecRequest& wanted = config_.request;
             if (auto status = streams_.start(wanted.keep_stdin, wanted.tty); !status) {
               set_error(std::move(status).error());
               return finish();
             }
             if (!wanted.tty) return;
             if (const auto size = window_size(STDOUT_FILENO)) exec_->send_resize(*size);
           },
       .on_output = [this](auto stream, auto bytes) { on_output(stream, bytes); },
       .on_stdin_room = [this] { streams_.resume_input(); },
       .on_exit =
           [this](agent::ExitReport r) {
             exited_ = true;
             set_status(r.signalled ? 128 + static_cast<int>(r.value) : static_cast<int>(r.value));
             finish_when_drained();
           },
       .on_refused = [without](const agent::ErrorReport&) { without(); },
       .on_lost = [without](const Error&) { without(); }});
  if (session) exec_ = *std::move(session);
}

void Session::on_started() {
  running_ = true;
  loop_.cancel_timer(start_timer_);
  // The window may have changed while the VM was booting.
  if (config_.request.tty && config_.attached) {
    if (auto size = window_size(STDOUT_FILENO)) exec_->send_resize(*size);
  }
  if (config_.guardian) config_.guardian->on_started();
  if (!config_.attached) return;
  if (auto status = streams_.start(config_.request.keep_stdin, config_.request.tty); !status) {
    set_error(std::move(status).error());
    finish();
  }
}

void Session::on_output(agent::Stream stream, std::span<const std::byte> bytes) {
  if (config_.guardian) config_.guardian->on_output(stream, bytes);
  if (!config_.attached && exec_) return exec_->consumed(stream, bytes.size());
  streams_.write(stream, bytes);
}

void Session::on_refused(const agent::ErrorReport& report) {
  error_ = Error(report.kind == agent::ErrorKind::kExecNotFound ? Code::kNotFound : Code::kGuest,
                 report.message);
  refused_status_ = refusal_status(report.kind);
  finish();
}

void Session::on_signal() {
  const int number = signals_.next();
  if (number == 0) return;
  if (number == SIGWINCH) {
    if (!config_.attached) return;
    const auto size = window_size(STDOUT_FILENO);
    const bool there = exec_ && (running_ || attached_);
    if (there && config_.request.tty && size) exec_->send_resize(*size);
    return;
  }
  if (asks_for_end(number) && ++end_requests_ >= kImpatience) return end_by_signal(number);
  signal(number);
}

// The workload runs since before the snapshot: no session of ours leads to it.
void Session::signal_workload(int number) {
  if (exited_) return;
  if (asks_for_end(number) && kill_timer_ == TimerId::kNone) {
    kill_timer_ = loop_.add_timer(now() + config_.stop_timeout, [this] { end_by_signal(SIGKILL); });
  }
  const std::uint64_t id = next_signal_++;
  const auto done = [this, id, number](const Status& status) {
    // It is below us on the stack.
    loop_.post([this, id] { signals_sent_.erase(id); });
    // The agent of an older snapshot knows no such request. All else is the workload's end, or the
    // VM's, which is told on its own.
    const bool unknown = !status && status.error().code() == Code::kInternal;
    if (unknown && asks_for_end(number) && !exited_) end_by_signal(number);
  };
  auto sent =
      MainSignal::send(loop_, config_.exec_socket, static_cast<std::uint32_t>(number), done);
  if (sent) signals_sent_[id] = std::move(*sent);
}

void Session::signal(int number) {
  if (config_.only_wait && exec_opened_) return signal_workload(number);
  if (asks_for_end(number) && !running_) {
    ++end_requests_;
    return end_by_signal(number);
  }
  if (running()) exec_->send_signal(number);
}

// A command that has ended leaves a guest that writes out its files, for stop_deadline at most.
void Session::end(int number) {
  const bool keeps_files = config_.resume && !config_.resume->root_disk.empty();
  if (keeps_files && exited_ && finishing_ && number != SIGKILL) return;
  end_by_signal(number);
}

void Session::pause(bool pause, std::function<void(Status)> done) {
  const std::uint64_t id = worker_->next_request_id();
  pauses_[id] = std::move(done);
  worker_->request(control::PauseRequest{.id = id, .pause = pause});
}

void Session::on_done(const control::Done& done) {
  for (SnapshotOrder* order : orders()) {
    if (done.id == order->id()) order->on_done(done);
  }
  if (saver_) saver_->on_done(done);
  on_answer(done.id, {});
}

void Session::on_refused(const control::Refused& refused) {
  for (SnapshotOrder* order : orders()) {
    if (refused.id == order->id()) order->on_refused(refused);
  }
  if (saver_) saver_->on_refused(refused);
  on_answer(refused.id, fail(error_from(refused.why)));
}

void Session::on_answer(std::uint64_t id, const Status& status) {
  auto node = pauses_.extract(id);
  if (node) node.mapped()(status);
}

void Session::end_by_signal(int number) {
  set_status(128 + number);
  exited_ = true;
  finish();
  worker_->kill();
}

void Session::set_error(Error error) {
  if (!error_) error_ = std::move(error);
}

void Session::set_status(int status) {
  if (!status_) status_ = status;
}

void Session::finish_when_drained() {
  if (exited_ && streams_.drained()) finish();
}

// Closes the exec connection: the agent then ends the VM, and with it the worker. Callbacks of
// exec_ may be on the stack, so it goes in a later turn.
void Session::finish() {
  if (std::exchange(finishing_, true)) return;
  loop_.cancel_timer(start_timer_);
  loop_.cancel_timer(std::exchange(kill_timer_, TimerId::kNone));
  streams_.stop_input();
  loop_.post([this] { exec_.reset(); });
  if (!exited_ || !config_.request.main) worker_->request_stop();
  loop_.add_timer(now() + config_.stop_deadline, [this] { worker_->kill(); });
}

void Session::on_worker_exit(int status) {
  if (!status_ && (!error_ || error_->code() == Code::kGone)) {
    if (refused_status_ == 0) {
      error_ = explain_worker_end(status, config_.worker.log_file, config_.console_log);
    }
  }
  loop_.stop();
}

}  // namespace

int refusal_status(agent::ErrorKind kind) {
  switch (kind) {
    case agent::ErrorKind::kExecNotFound:
      return 127;
    case agent::ErrorKind::kExecDenied:
      return 126;
    default:
      return 125;
  }
}

SessionOutcome run_session(const SessionConfig& config, const SessionSignals& signals) {
  auto loop = EventLoop::create();
  if (!loop) return {125, std::move(loop).error()};
  return Session(config, signals, **loop).run();
}

}  // namespace sm
