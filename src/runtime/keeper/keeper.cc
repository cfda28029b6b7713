#include "runtime/keeper/keeper.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "runtime/root_disk.h"
#include "runtime/run_session.h"
#include "runtime/unix_connect.h"

namespace sm {

namespace {

// So long may somebody who is attached take to read the last of the output.
constexpr Duration kLastWords = std::chrono::seconds(2);

std::string text_of(const Error& error) {
  return error.remedy().empty() ? error.cause() : error.cause() + "\n" + error.remedy();
}

}  // namespace

Keeper::Keeper(const VmRegistry& registry, KeeperClaim claim, bool attached, OnReady on_ready)
    : registry_(registry),
      held_(std::move(claim.held)),
      attached_(attached),
      on_ready_(std::move(on_ready)),
      short_id_(short_vm_id(held_.record.id)),
      ran_before_(claim.before.state != VmState::kCreated),
      events_(registry.folder()),
      server_(std::move(claim.server)) {
  server_->handle([this](auto call, auto request) { on_request(call, std::move(request)); });
}

Keeper::~Keeper() = default;

// A record that cannot be written is no reason to lose the VM; how a VM ended is worth more than
// what it said.
void Keeper::save() {
  if (held_.save() || !log_) return;
  log_->give_way(/*all=*/false);
  if (held_.save()) return;
  log_->give_way(/*all=*/true);
  static_cast<void>(held_.save());
}

void Keeper::event(const std::string& action) { events_.add(held_.record, action); }

// Who goes at its end has nothing to keep.
std::string Keeper::root_disk() const {
  return held_.record.auto_remove ? std::string() : registry_.root_disk_of(held_.record.id);
}

// A VM of a version that had no disks gets one at its next start.
Status Keeper::prepare_root_disk(const std::string& cache) {
  const std::string path = root_disk();
  if (path.empty() || ::access(path.c_str(), F_OK) == 0) return {};
  if (held_.record.has_disk) {
    return fail(Code::kNotFound, "the VM's disk is gone: " + path,
                "put it back, or remove the VM and make a new one");
  }
  const std::uint64_t bytes = held_.record.disk_bytes;
  SM_TRY_STATUS(make_root_disk(path, cache, bytes == 0 ? kRootDiskBytes : bytes));
  held_.record.has_disk = true;
  return {};
}

Status Keeper::open(const PreparedRun& run) {
  VmRecord& r = held_.record;
  const std::string folder = SM_TRY(vm_folder(short_id_));
  r.exec_socket = folder + "/exec.sock";
  r.keeper_pid = ::getpid();
  r.engine = run.options.engine;
  // What nobody can ask for later is not written: `run --rm` costs nothing more.
  if (!attached_ || !r.auto_remove) log_.emplace(LogWriter::open(held_.folder()));
  SM_TRY_STATUS(prepare_root_disk(run.cache));
  if (!r.ports.empty()) {
    ports_ = SM_TRY(PortPublisher::open(short_id_, r.exec_socket, r.ports));
    r.ports = ports_->bindings();
  }
  return held_.save();
}

RunOutcome Keeper::run(const PreparedRun& run, const SessionSignals& signals) {
  RunOutcome outcome;
  run_ = &run;
  health_check_ = run.health;
  if (auto opened = open(run); !opened) {
    outcome.error = std::move(opened).error();
  } else {
    outcome = run_until_over(run, signals);
  }
  finish(outcome);
  tell_start(outcome);
  return outcome;
}

void Keeper::tell_start(const std::optional<RunOutcome>& failure) {
  for (const auto call : std::exchange(starters_, {})) {
    KeeperReply reply;
    if (failure) reply.error = Error(Code::kGuest, "its start was ended");
    if (failure && failure->error) reply.error = failure->error;
    server_->reply(call, reply);
  }
  if (on_ready_) std::exchange(on_ready_, {})(failure);
}

RunOutcome Keeper::run_until_over(const PreparedRun& run, const SessionSignals& signals) {
  for (;;) {
    held_.record.started_ns = 0;
    const TimePoint began = now();
    auto ended = run_prepared(run, {short_id_, attached_, root_disk(), this}, signals);
    RunOutcome outcome;
    if (ended) {
      outcome = *std::move(ended);
    } else {
      outcome.error = std::move(ended).error();
    }
    note_end(outcome);
    if (!wants_restart(outcome)) return outcome;
    if (!back_off(backoff_.next(now() - began), signals)) return outcome;
    ++held_.record.restarts;
  }
}

// A first start that fails is told to the user, not tried again.
bool Keeper::wants_restart(const RunOutcome& outcome) const {
  const RestartPolicy& policy = held_.record.restart;
  if (stop_wanted_ || outcome.end_asked || on_ready_) return false;
  switch (policy.kind) {
    case RestartKind::kNo:
      return false;
    case RestartKind::kOnFailure:
      return outcome.status != 0 && (policy.most == 0 || held_.record.restarts < policy.most);
    default:
      return true;
  }
}

bool Keeper::back_off(Duration wait, const SessionSignals& signals) {
  held_.record.state = VmState::kRestarting;
  save();
  auto loop = EventLoop::create();
  if (!loop) return false;
  loop_ = loop->get();
  const auto on_signal = [&](std::uint32_t) {
    const int number = signals.next();
    if (number == SIGINT || number == SIGTERM || number == SIGHUP) stop_wanted_ = true;
    if (stop_wanted_) loop_->stop();
  };
  loop_->add_timer(now() + wait, [this] { loop_->stop(); });
  if (server_->serve(*loop_) && loop_->add(signals.fd(), EPOLLIN, on_signal)) {
    if (!stop_wanted_) loop_->run();
  }
  server_->leave();
  loop_ = nullptr;
  return !stop_wanted_;
}

// The command has ended, perhaps not for the last time.
void Keeper::note_end(const RunOutcome& outcome) {
  VmRecord& r = held_.record;
  r.worker_pid = 0;
  r.health.clear();
  r.health_failures = 0;
  r.exit_code = outcome.status;
  r.error = outcome.error ? text_of(*outcome.error) : "";
  r.finished_ns = unix_now_ns();
  if (r.started_ns != 0) {
    r.state = VmState::kExited;
    event("die");
  }
}

void Keeper::finish(const RunOutcome& outcome) {
  VmRecord& r = held_.record;
  ports_.reset();
  for (PortBinding& port : r.ports) {
    if (port.any) port.host = 0;
  }
  if (log_) log_->finish();
  r.keeper_pid = 0;
  r.exit_code = outcome.status;
  r.stopped = stop_wanted_;
  if (outcome.error) r.error = text_of(*outcome.error);
  if (is_live(r.state) || ran_before_) r.state = VmState::kExited;
  if (r.auto_remove) {
    event("destroy");
    server_->hide();
    static_cast<void>(registry_.remove(std::move(held_)));
    server_->close();
  } else {
    save();
    let_go(held_, *server_);
  }
  for (const auto call : std::exchange(waiting_, {})) {
    server_->reply(call, {.error = {}, .status = outcome.status & 0xFF, .stats = {}});
  }
}

Status Keeper::on_begin(EventLoop& loop, SessionControl& control) {
  loop_ = &loop;
  control_ = &control;
  auto served = server_->serve(loop);
  if (!served) {  // on_end() will not come
    server_->leave();
    control_ = nullptr;
    loop_ = nullptr;
  }
  return served;
}

void Keeper::on_started() {
  VmRecord& r = held_.record;
  r.state = VmState::kRunning;
  r.started_ns = unix_now_ns();
  r.finished_ns = 0;
  r.exit_code = 0;
  r.error.clear();
  r.worker_pid = control_->worker_pid();
  watch_health();
  save();
  event("start");
  tell_start(std::nullopt);
}

void Keeper::watch_health() {
  VmRecord& r = held_.record;
  r.health_failures = 0;
  if (!health_check_) return;
  r.health = health_text(Health::kStarting);
  health_ = std::make_unique<HealthMonitor>(
      *loop_, r.exec_socket, *health_check_,
      HealthMonitor::Host{
          .is_paused = [this] { return held_.record.state == VmState::kPaused; },
          .on_result = [this](Health health, std::uint32_t n) { on_health(health, n); }});
}

void Keeper::on_health(Health health, std::uint32_t failures) {
  VmRecord& r = held_.record;
  const auto text = health_text(health);
  if (r.health == text && r.health_failures == failures) return;
  const bool changed = r.health != text;
  r.health = text;
  r.health_failures = failures;
  save();
  if (changed) event("health_status: " + r.health);
}

void Keeper::on_output(agent::Stream stream, std::span<const std::byte> bytes) {
  if (log_) log_->write(stream, bytes);
  if (bytes.empty()) return;
  for (const auto& peer : peers_) peer->output(stream, bytes);
}

void Keeper::on_input_room() {
  for (const auto& peer : peers_) peer->on_input_room();
}

void Keeper::on_end(const SessionOutcome& outcome) {
  const bool signalled = outcome.status > 128;
  agent::ExitReport report;
  report.signalled = signalled;
  report.value = static_cast<std::uint32_t>(signalled ? outcome.status - 128 : outcome.status);
  for (const auto& peer : peers_) peer->finish(report);
  const auto drained = [this] {
    return std::all_of(peers_.begin(), peers_.end(), [](const auto& p) { return p->drained(); });
  };
  const Deadline deadline = Deadline::after(kLastWords);
  while (!drained() && !deadline.passed()) loop_->run_once(deadline);
  loop_->cancel_timer(std::exchange(kill_timer_, TimerId::kNone));
  end_wanted_ = false;
  health_.reset();
  for (const auto& exec : execs_) {
    if (exec->call != 0) answer(exec->call, fail(Code::kGone, "the VM has ended"));
  }
  execs_.clear();
  peers_.clear();
  server_->leave();
  control_ = nullptr;
  loop_ = nullptr;
}

}  // namespace sm
