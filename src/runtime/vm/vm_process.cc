#include "runtime/vm/vm_process.h"

#include <utility>

#include "runtime/unix_connect.h"
#include "runtime/worker_report.h"

namespace sm {

Result<std::unique_ptr<VmProcess>> VmProcess::start(EventLoop& loop,
                                                    const std::shared_ptr<VmSource>& source,
                                                    const std::string& runtime_dir,
                                                    const Limits& limits, VmEvents events) {
  const std::string id = SM_TRY(random_id());
  VmDir dir = SM_TRY(VmDir::create(runtime_dir, id));
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
  vm->worker_ = SM_TRY(
      WorkerProcess::spawn(loop, launch.worker,
                           {.on_event = [v = vm.get()](const control::Event& e) { v->on_event(e); },
                            .on_failure = [v = vm.get()](Error e) { v->set_error(std::move(e)); },
                            .on_done =
                                [v = vm.get()](const control::Done& d) {
                                  if (v->saver_) v->saver_->on_done(d);
                                },
                            .on_refused =
                                [v = vm.get()](const control::Refused& r) {
                                  if (v->saver_) v->saver_->on_refused(r);
                                },
                            .on_exit = [v = vm.get()](int status) { v->on_exit(status); }}));
  vm->saver_ = std::make_unique<VmSaver>(loop, *vm->worker_);
  vm->start_timer_ =
      loop.add_timer(now() + limits.start, [v = vm.get()] { v->on_start_timeout(); });
  return vm;
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
  return SM_TRY(VmProcess::start(loop_, source_, runtime_dir_, limits_, std::move(events)));
}

}  // namespace sm
