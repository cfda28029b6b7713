// VmHost: what a program needs to start VMs of its own and talk to them: one loop thread, one gate.
#pragma once

#include <memory>
#include <string>

#include "runtime/loop_thread.h"
#include "runtime/pool/start_gate.h"
#include "runtime/pool/vm_pool.h"
#include "runtime/vm/vm_source.h"

namespace sm {

class VmHost {
 public:
  static Result<std::unique_ptr<VmHost>> create(const std::string& runtime_dir);
  // Ends every VM.
  ~VmHost() { loop_->stop(); }
  VmHost(const VmHost&) = delete;
  VmHost& operator=(const VmHost&) = delete;
  VmHost(VmHost&&) = delete;
  VmHost& operator=(VmHost&&) = delete;

  const std::shared_ptr<LoopThread>& loop() const { return loop_; }
  Result<std::shared_ptr<VmPool>> pool(std::shared_ptr<VmSource> source, const PoolLimits& limits,
                                       bool ahead);
  // Waits for a VM of the pool. Its limits say how long.
  static Result<VmLease> acquire(VmPool& pool);

 private:
  explicit VmHost(std::string runtime_dir) : runtime_dir_(std::move(runtime_dir)) {}

  std::string runtime_dir_;
  std::shared_ptr<LoopThread> loop_;
  std::unique_ptr<StartGate> gate_;
};

}  // namespace sm
