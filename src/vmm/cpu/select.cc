#include "vmm/cpu/select.h"

#include "vmm/cpu/kvm/kvm_vm.h"
#include "vmm/cpu/kvm/probe.h"

namespace sm {

namespace {

constexpr const char* kByName = "asked for by name";

Result<EngineChoice> kvm(std::string reason, std::optional<CpuModel> model,
                         const SoftDebug& debug) {
  if (debug.trace != nullptr) {
    return fail(Code::kUnsupported, "--trace: KVM cannot be traced", "use --engine soft");
  }
  KvmConfig config;
  config.cpu_model = model.value_or(config.cpu_model);
  return EngineChoice{"kvm", std::move(reason), SM_TRY(create_kvm_vm(config))};
}

Result<EngineChoice> soft(std::string reason, std::optional<CpuModel> model,
                          const SoftDebug& debug) {
  SoftConfig config;
  config.debug = debug;
  config.cpu_model = model.value_or(config.cpu_model);
  return EngineChoice{"soft", std::move(reason), SM_TRY(create_soft_vm(config))};
}

}  // namespace

Result<EngineChoice> select_engine(const std::string& wanted, std::optional<CpuModel> model,
                                   const SoftDebug& debug) {
  if (wanted == "kvm") return kvm(kByName, model, debug);
  if (wanted == "soft") return soft(kByName, model, debug);
  if (wanted != "auto") {
    return fail(Code::kInvalidArgument, "unknown engine '" + wanted + "'", "use auto, kvm or soft");
  }
  const KvmProbe probe = probe_kvm();
  if (probe.verdict == KvmVerdict::kNative) return kvm(probe.reason, model, debug);
  return soft("a software CPU, since " + probe.reason, model, debug);
}

}  // namespace sm
