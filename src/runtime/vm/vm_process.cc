#include "runtime/vm/vm_process.h"

#include <utility>

#include "runtime/unix_connect.h"
#include "runtime/worker_report.h"

namespace sm {

Result<std::unique_ptr<VmProcess>> VmProcess::start(EventLoop& loop,
                                                    const std::shared_ptr<VmSource>& source,
                                                    const std::string& runtime_dir,
                                                    const Limits& limits, VmEvents events,
                                                    SpareVm* spare) {
  const std::string id = spare ? spare->id() : SM_TRY(random_id());
  VmDir dir = spare ? spare->take_dir() : SM_TRY(VmDir::create(runtime_dir, id));
  VmLaunch launch = SM_TRY(source->launch(dir, id));
  std::unique_ptr<VmProcess> vm(new VmProcess(loop, std::move(dir), id, limits, std::move(events)));
  vm->worker_log_ = launch.worker.log_file;
  vm->source_ = source;
  vm->resume_request_ = std::move(launch.resume);
  vm->kernel_bake_ = std::move(launch.kernel_bake);
  vm->bake_ = std::move(launch.bake);
  vm->kept_ = std::move(launch.kept);
  vm->restored_ = launch.restored;
  vm->kernel_digest_ = std::move(launch.kernel_digest);
  vm->initramfs_digest_ = std::move(launch.initramfs_digest);
  vm->disk_ = std::move(launch.disk);
  if (spare) vm->worker_ = spare->become(launch, vm->worker_callbacks());
  if (vm->worker_) {
    // If it does not come up, that need not be the snapshot's fault: a new process will show.
    vm->kept_.clear();
  } else {
    vm->worker_ = SM_TRY(WorkerProcess::spawn(loop, launch.worker, vm->worker_callbacks()));
  }
  vm->saver_ = std::make_unique<VmSaver>(loop, *vm->worker_);
  vm->start_timer_ =
      loop.add_timer(now() + limits.start, [v = vm.get()] { v->on_start_timeout(); });
  return vm;
}

WorkerProcess::Callbacks VmProcess::worker_callbacks() {
  return {.on_event = [this](const control::Event& e) { on_event(e); },
          .on_failure = [this](Error e) { set_error(std::move(e)); },
          .on_done =
              [this](const control::Done& d) {
                if (saver_) saver_->on_done(d);
              },
          .on_refused =
              [this](const control::Refused& r) {
                if (saver_) saver_->on_refused(r);
              },
          .on_exit = [this](int status) { on_exit(status); }};
}

VmProcess::VmProcess(EventLoop& loop, VmDir dir, const std::string& id, const Limits& limits,
                     VmEvents events)
    : loop_(loop),
      dir_(std::move(dir)),
      limits_(limits),
      events_(std::move(events)),
      endpoint_(std::make_shared<VmEndpoint>(id, dir_.exec_socket())) {}

VmProcess::~VmProcess() {
  loop_.cancel_timer(start_timer_);
  loop_.cancel_timer(stop_timer_);
  endpoint_->set_control(nullptr);
  resume_.reset();
  saver_.reset();
  worker_.reset();
  endpoint_->set_ended(Error(Code::kGone, "the VM has been stopped"));
}

void VmProcess::stop() {
  if (std::exchange(stopping_, true)) return;
  set_error(Error(Code::kGone, "the VM has been stopped"));
  worker_->request_stop();
  stop_timer_ = loop_.add_timer(now() + limits_.stop, [this] { worker_->kill(); });
}

void VmProcess::on_event(const control::Event& event) {
  if (event.name == control::EventName::kFatal) {
    return set_error(Error(
        Code::kGuest, "the guest could not start (code " + std::to_string(event.argument) + ")",
        "its console said:\n" + last_lines(dir_.console_log())));
  }
  if (event.name == control::EventName::kWorkloadExit) {
    return set_error(Error(
        Code::kGone, "the VM's workload has ended with status " + std::to_string(event.argument)));
  }
  if (event.name == control::EventName::kImageAwaited && kernel_bake_) {
    return bake(*std::exchange(kernel_bake_, std::nullopt));
  }
  // The agent of a restored guest has been ready for long.
  const auto reachable = restored_ ? control::EventName::kStarted : control::EventName::kAgentReady;
  if (event.name != reachable || ready_ || stopping_ || resume_) return;
  if (bake_) bake(*std::exchange(bake_, std::nullopt));
  resume_request_ ? resume() : become_ready();
}

// The guest stands still until the worker has an answer. A snapshot that fails is no reason for the
// VM to fail.
void VmProcess::bake(const SnapshotTarget& target) {
  saver_->save(target, false, [this](const auto& result) {
    // A guest that has gone on may be paused by its user meanwhile.
    if (result || ready_) return;
    worker_->request(control::PauseRequest{.id = worker_->next_request_id(), .pause = false});
  });
}

void VmProcess::save(SaveOrder order, std::function<void(Result<control::Done>)> done) {
  SnapshotTarget target;
  target.path = std::move(order.path);
  target.memory_bytes = source_->memory_bytes();
  target.base = std::move(order.base);
  target.replace = order.replace;
  target.kernel_digest = kernel_digest_;
  target.initramfs_digest = initramfs_digest_;
  target.annotations = std::move(order.annotations);
  target.disk = disk_;
  if (order.stay_paused) endpoint_->set_paused(true);
  saver_->save(std::move(target), order.stay_paused, std::move(done));
}

void VmProcess::set_paused(bool paused, std::function<void(Status)> done) {
  if (paused) endpoint_->set_paused(true);
  saver_->set_paused(paused, [endpoint = endpoint_, paused, done = std::move(done)](Status status) {
    if (status && !paused) endpoint->set_paused(false);
    done(std::move(status));
  });
}

// The guest learns who it is: its name, the time, fresh random numbers.
void VmProcess::resume() {
  const auto on_done = [this](Result<agent::ResumeReport> report) {
    if (report) return become_ready();
    set_error(std::move(report).error().with("restore"));
    worker_->kill();
  };
  auto socket = connect_unix(dir_.exec_socket());
  auto client = socket ? ResumeClient::start(loop_, std::move(*socket), *resume_request_,
                                             Deadline::after(limits_.start), on_done)
                       : fail(std::move(socket).error());
  if (!client) return on_done(fail(std::move(client).error()));
  resume_ = std::move(*client);
}

void VmProcess::become_ready() {
  if (ready_ || stopping_) return;
  ready_ = true;
  endpoint_->set_control(this);
  loop_.cancel_timer(std::exchange(start_timer_, TimerId::kNone));
  events_.on_ready();
}

void VmProcess::on_start_timeout() {
  start_timer_ = TimerId::kNone;
  set_error(Error(
      Code::kTimeout, "the VM did not start in time",
      "see `supermachine doctor`; the guest's console said:\n" + last_lines(dir_.console_log())));
  worker_->kill();
}

void VmProcess::set_error(Error error) {
  if (!error_) error_ = std::move(error);
}

void VmProcess::on_exit(int status) {
  loop_.cancel_timer(std::exchange(start_timer_, TimerId::kNone));
  loop_.cancel_timer(std::exchange(stop_timer_, TimerId::kNone));
  if (!error_) {
    Error why = explain_worker_end(status, worker_log_, dir_.console_log());
    error_ = ready_ ? std::move(why) : Error(Code::kGuest, why.cause(), why.remedy());
  }
  if (!kept_.empty() && !ready_ && !stopping_ && error_->code() != Code::kTimeout) {
    source_->on_restore_failed(kept_);
  }
  endpoint_->set_control(nullptr);
  saver_->end(*error_);
  endpoint_->set_ended(*error_);
  events_.on_end(*error_);
}

Result<std::unique_ptr<StartedVm>> ProcessStarter::start(VmEvents events) {
  if (ahead_) {
    events.on_ready = [this, on_ready = std::move(events.on_ready)] {
      on_ready();
      prepare_soon();
    };
  }
  auto spare = std::exchange(spare_, nullptr);
  if (spare && !spare->usable()) spare.reset();
  auto vm = SM_TRY(
      VmProcess::start(loop_, source_, runtime_dir_, limits_, std::move(events), spare.get()));
  // What this one could not be, the next one cannot either.
  if (spare && spare->waits()) ahead_ = false;
  return vm;
}

void ProcessStarter::close() {
  ahead_ = false;
  spare_.reset();
  loop_.cancel_timer(std::exchange(prepare_timer_, TimerId::kNone));
}

// Not at once: whoever got the VM needs the processor more.
void ProcessStarter::prepare_soon() {
  constexpr Duration kAfterwards = std::chrono::milliseconds(20);
  if (!ahead_ || spare_ || prepare_timer_ != TimerId::kNone) return;
  prepare_timer_ = loop_.add_timer(now() + kAfterwards, [this] {
    prepare_timer_ = TimerId::kNone;
    // Without one the next VM starts all the same.
    if (auto spare = SpareVm::create(loop_, *source_, runtime_dir_)) spare_ = std::move(*spare);
  });
}

}  // namespace sm
