// One vCPU of the `soft` engine: the interpreter and everything it stands on. Its public functions
// are those of EngineVcpu. run(), finish_pending_exit() and set_state() on its own thread; kick()
// and counters() from any.
#pragma once

#include <memory>
#include <vector>

#include "vmm/cpu/cpuid_model.h"
#include "vmm/cpu/engine.h"
#include "vmm/cpu/soft/apic/platform.h"
#include "vmm/cpu/soft/code_cache.h"
#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/interpreter.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/mmu/mmu.h"

namespace sm::soft {

class SoftVcpu {
 public:
  // Both outlive it. In reset state; all but vCPU 0 wait for INIT and SIPI.
  SoftVcpu(Machine& machine, Platform& platform, std::uint32_t index, std::vector<CpuidLeaf> cpuid,
           const ExecutionOptions& options = {});
  ~SoftVcpu();
  SoftVcpu(const SoftVcpu&) = delete;
  SoftVcpu& operator=(const SoftVcpu&) = delete;
  SoftVcpu(SoftVcpu&&) = delete;
  SoftVcpu& operator=(SoftVcpu&&) = delete;

  VcpuExit run();
  void kick();
  Status finish_pending_exit();
  Result<CpuState> state() const;
  Status set_state(const CpuState& state);
  VcpuCounters counters();

 private:
  VcpuExit device_exit();

  Machine& machine_;
  Cpu cpu_;
  Mmu mmu_;
  CodeCache code_;
  // state() is constant to its callers, but saving the APIC settles what is on its way.
  mutable VcpuPlatform platform_;
  Interpreter interpreter_;
  bool handed_out_ = false;  // the waiting access was returned by run()
};

}  // namespace sm::soft
