// The choice of a CPU engine, with the reason in one line.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "vmm/cpu/cpuid_model.h"
#include "vmm/cpu/engine.h"
#include "vmm/cpu/soft/soft_vm.h"

namespace sm {

struct EngineChoice {
  std::string name;              // "kvm", "soft"
  std::string reason;            // why, for people
  std::unique_ptr<EngineVm> vm;  // an empty machine
};

// `wanted`: "auto" takes KVM where it runs guest kernels natively and the software CPU elsewhere;
// "kvm" takes KVM as it is.
// `model`: the processor that guests see; without one, the engine's usual. `debug` is for the
// software CPU; KVM is refused when a trace is asked for.
Result<EngineChoice> select_engine(const std::string& wanted,
                                   std::optional<CpuModel> model = std::nullopt,
                                   const SoftDebug& debug = {});

}  // namespace sm
