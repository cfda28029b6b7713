// The `soft` engine: a machine whose CPUs are software, for hosts without a usable /dev/kvm. Any
// thread may create machines; the threads of each call are those of vmm/cpu/engine.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "vmm/cpu/cpuid_model.h"
#include "vmm/cpu/engine.h"

namespace sm {

// Where a trace goes. Any vCPU's thread, several at once.
class SoftTraceSink {
 public:
  virtual ~SoftTraceSink() = default;
  // Without a line feed.
  virtual void line(std::string_view text) = 0;
};

// For tests of the engine, and for whoever looks for a defect in it.
struct SoftDebug {
  // Every instruction by its semantic function, no blocks.
  bool reference = false;
  // Time is counted in executed instructions, 1000 of them a microsecond, so that the same guest
  // does the same every time. One vCPU only; a HLT that nothing inside of the machine ends is
  // ExitHalt.
  bool virtual_time = false;
  // run() returns ExitKicked after exactly so many instructions; 0: never.
  std::uint64_t instructions_per_run = 0;
  // Executes as `reference` says and tells every step. Outlives the machine.
  SoftTraceSink* trace = nullptr;
};

struct SoftConfig {
  CpuModel cpu_model = CpuModel::kX86_64V2Plus;
  SoftDebug debug = {};
};

// An empty machine with interrupt controllers.
Result<std::unique_ptr<EngineVm>> create_soft_vm(const SoftConfig& config);

}  // namespace sm
