// The `soft` engine: a machine whose CPUs are software, for hosts without a usable /dev/kvm. Any
// thread may create machines; the threads of each call are those of vmm/cpu/engine.h.
#pragma once

#include <memory>

#include "vmm/cpu/cpuid_model.h"
#include "vmm/cpu/engine.h"

namespace sm {

struct SoftConfig {
  CpuModel cpu_model = CpuModel::kX86_64V2Plus;
};

// An empty machine with interrupt controllers.
Result<std::unique_ptr<EngineVm>> create_soft_vm(const SoftConfig& config);

}  // namespace sm
