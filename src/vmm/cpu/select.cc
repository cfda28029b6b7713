#include "vmm/cpu/select.h"

#include "vmm/cpu/kvm/kvm_vm.h"
#include "vmm/cpu/kvm/probe.h"
#include "vmm/cpu/soft/soft_vm.h"

namespace sm {

namespace {

constexpr const char* kByName = "asked for by name";

Result<EngineChoice> kvm(std::string reason) {
  return EngineChoice{"kvm", std::move(reason), SM_TRY(create_kvm_vm(KvmConfig{}))};
}

Result<EngineChoice> soft(std::string reason) {
  return EngineChoice{"soft", std::move(reason), SM_TRY(create_soft_vm(SoftConfig{}))};
}

}  // namespace

Result<EngineChoice> select_engine(const std::string& wanted) {
  if (wanted == "kvm") return kvm(kByName);
  if (wanted == "soft") return soft(kByName);
  if (wanted != "auto") {
    return fail(Code::kInvalidArgument, "unknown engine '" + wanted + "'", "use auto, kvm or soft");
  }
  const KvmProbe probe = probe_kvm();
  if (probe.verdict == KvmVerdict::kNative) return kvm(probe.reason);
  return soft("a software CPU, since " + probe.reason);
}

}  // namespace sm
