// VmProcess: a VM that is a worker process, from its start to its end: the process, its folder, its
// deadlines. Thread: the loop's.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/event_loop.h"
#include "runtime/resume_client.h"
#include "runtime/vm/spare_vm.h"
#include "runtime/vm/started_vm.h"
#include "runtime/vm/vm_saver.h"
#include "runtime/vm/vm_source.h"

namespace sm {

class VmProcess final : public StartedVm, private VmControl {
 public:
  struct Limits {
    Duration start = std::chrono::seconds(180);  // a guest may run on a CPU in software
    Duration stop = std::chrono::seconds(2);     // after that the worker is killed
  };

  // In the folder of `spare`, if there is one, and in its process, which does not wait any more
  // then, if that can become this VM.
  static Result<std::unique_ptr<VmProcess>> start(EventLoop& loop,
                                                  const std::shared_ptr<VmSource>& source,
                                                  const std::string& runtime_dir,
                                                  const Limits& limits, VmEvents events,
                                                  SpareVm* spare = nullptr);
  ~VmProcess() override;
  VmProcess(const VmProcess&) = delete;
  VmProcess& operator=(const VmProcess&) = delete;
  VmProcess(VmProcess&&) = delete;
  VmProcess& operator=(VmProcess&&) = delete;

  const std::shared_ptr<VmEndpoint>& endpoint() const override { return endpoint_; }
  void stop() override;

 private:
  VmProcess(EventLoop& loop, VmDir dir, const std::string& id, const Limits& limits,
            VmEvents events);
  void save(SaveOrder order, std::function<void(Result<control::Done>)> done) override;
  void set_paused(bool paused, std::function<void(Status)> done) override;
  WorkerProcess::Callbacks worker_callbacks();
  void on_event(const control::Event& event);
  void bake(const SnapshotTarget& target);
  void resume();
  void become_ready();
  void on_start_timeout();
  void on_exit(int status);
  void set_error(Error error);

  EventLoop& loop_;
  VmDir dir_;
  Limits limits_;
  VmEvents events_;
  std::shared_ptr<VmEndpoint> endpoint_;
  std::string worker_log_;
  std::shared_ptr<VmSource> source_;
  std::optional<agent::ResumeRequest> resume_request_;
  std::optional<SnapshotTarget> kernel_bake_, bake_;  // until they are ordered
  std::string kernel_digest_, initramfs_digest_;
  std::optional<SnapshotDisk> disk_;
  bool restored_ = false;
  std::string kept_;  // VmLaunch::kept
  std::optional<Error> error_;
  TimerId start_timer_ = TimerId::kNone;
  TimerId stop_timer_ = TimerId::kNone;
  bool ready_ = false;
  bool stopping_ = false;
  std::unique_ptr<ResumeClient> resume_;
  std::unique_ptr<WorkerProcess> worker_;  // gone before its folder is
  std::unique_ptr<VmSaver> saver_;         // before the worker goes
};

// Starts VMs of one kind. With `ahead`, a worker process waits for the next one that goes on from a
// snapshot, from the first that was ready on.
class ProcessStarter final : public VmStarter {
 public:
  ProcessStarter(EventLoop& loop, std::shared_ptr<VmSource> source, std::string runtime_dir,
                 const VmProcess::Limits& limits, bool ahead)
      : loop_(loop),
        source_(std::move(source)),
        runtime_dir_(std::move(runtime_dir)),
        limits_(limits),
        ahead_(ahead) {}
  // Any thread when it has started nothing or is closed.
  ~ProcessStarter() override {
    if (prepare_timer_ != TimerId::kNone) loop_.cancel_timer(prepare_timer_);
  }
  ProcessStarter(const ProcessStarter&) = delete;
  ProcessStarter& operator=(const ProcessStarter&) = delete;
  ProcessStarter(ProcessStarter&&) = delete;
  ProcessStarter& operator=(ProcessStarter&&) = delete;

  std::uint64_t memory_bytes() const override { return source_->memory_bytes(); }
  // The VMs end before this does.
  Result<std::unique_ptr<StartedVm>> start(VmEvents events) override;
  void close() override;

 private:
  void prepare_soon();

  EventLoop& loop_;
  std::shared_ptr<VmSource> source_;
  std::string runtime_dir_;
  VmProcess::Limits limits_;
  bool ahead_;
  std::unique_ptr<SpareVm> spare_;
  TimerId prepare_timer_ = TimerId::kNone;
};

}  // namespace sm
