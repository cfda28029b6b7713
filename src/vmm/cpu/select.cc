#include "vmm/cpu/select.h"

#include "vmm/cpu/kvm/kvm_vm.h"
#include "vmm/cpu/kvm/probe.h"

namespace sm {

Result<EngineChoice> select_engine(const std::string& wanted) {
  if (wanted != "auto" && wanted != "kvm") {
    return fail(Code::kInvalidArgument, "unknown engine '" + wanted + "'", "use auto or kvm");
  }
  std::string reason = "asked for by name";
  if (wanted == "auto") {
    const KvmProbe probe = probe_kvm();
    if (probe.verdict != KvmVerdict::kNative) {
      return fail(Code::kUnsupported, "no engine can run guests here: " + probe.reason,
                  probe.remedy);
    }
    reason = probe.reason;
  }
  return EngineChoice{"kvm", std::move(reason), SM_TRY(create_kvm_vm(KvmConfig{}))};
}

}  // namespace sm
