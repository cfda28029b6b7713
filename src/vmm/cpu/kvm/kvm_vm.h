// The `kvm` engine: a machine that runs on the host's /dev/kvm. Any thread may create machines; the
// threads of each call are those of vmm/cpu/engine.h.
#pragma once

#include <memory>
#include <string>

#include "vmm/cpu/cpuid_model.h"
#include "vmm/cpu/engine.h"

namespace sm {

struct KvmConfig {
  CpuModel cpu_model = CpuModel::kHost;
  std::string device = "/dev/kvm";
};

// An empty machine with interrupt controllers. Fails with kNotFound or kPermission when there is no
// usable device, kUnsupported naming what the host's KVM lacks.
Result<std::unique_ptr<EngineVm>> create_kvm_vm(const KvmConfig& config);

}  // namespace sm
