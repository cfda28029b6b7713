#include "vmm/cpu/select.h"

#include "vmm/cpu/kvm/kvm_vm.h"
#include "vmm/cpu/kvm/probe.h"
#include "vmm/cpu/soft/soft_vm.h"

namespace sm {

namespace {

constexpr const char* kByName = "asked for by name";

Result<EngineChoice> kvm(std::string reason, std::optional<CpuModel> model) {
  KvmConfig config;
  config.cpu_model = model.value_or(config.cpu_model);
  return EngineChoice{"kvm", std::move(reason), SM_TRY(create_kvm_vm(config))};
}

Result<EngineChoice> soft(std::string reason, std::optional<CpuModel> model) {
  SoftConfig config;
  config.cpu_model = model.value_or(config.cpu_model);
  return EngineChoice{"soft", std::move(reason), SM_TRY(create_soft_vm(config))};
}

}  // namespace

Result<EngineChoice> select_engine(const std::string& wanted, std::optional<CpuModel> model) {
  if (wanted == "kvm") return kvm(kByName, model);
  if (wanted == "soft") return soft(kByName, model);
  if (wanted != "auto") {
    return fail(Code::kInvalidArgument, "unknown engine '" + wanted + "'", "use auto, kvm or soft");
  }
  const KvmProbe probe = probe_kvm();
  if (probe.verdict == KvmVerdict::kNative) return kvm(probe.reason, model);
  return soft("a software CPU, since " + probe.reason, model);
}

}  // namespace sm
