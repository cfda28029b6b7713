// Settings of the C interface as those of the C++ one.
#include "api/c_handles.h"

namespace supermachine::c {

Result<Engine> engine_of(const char* name) {
  const std::string engine = text(name);
  if (engine == "kvm") return Engine::kKvm;
  if (engine == "soft") return Engine::kSoft;
  if (engine.empty() || engine == "auto") return Engine::kAuto;
  return Error(ErrorCode::kInvalidArgument, "'" + engine + "' is no CPU engine",
               "use auto, kvm or soft");
}

Result<VmConfig> config_of(const supermachine_vm_config* given) {
  const auto c = sized(given);
  VmConfig out;
  out.memory_mib = c.memory_mib;
  out.vcpus = c.vcpus;
  out.hostname = text(c.hostname);
  out.env = words(c.env);
  out.secrets = words(c.secrets);
  out.new_machine_id = c.new_machine_id != 0;
  if (c.start_timeout_ms > 0) {
    constexpr std::uint64_t kLongest = 1ull << 40;
    out.start_timeout = std::chrono::milliseconds(std::min(c.start_timeout_ms, kLongest));
  }
  const auto engine = engine_of(c.engine);
  if (!engine) return engine.error();
  out.engine = *engine;
  return out;
}

}  // namespace supermachine::c
