// The CPU engine: what runs guest instructions. Two implementations (kvm/, soft/) and a fake for
// tests stand behind these interfaces; everything above is blind to which one runs.
//
// Order of use: EngineVm -> map_memory -> irq_line/register_ioevent -> create_vcpu xN -> set_state
// -> run in one thread per vCPU. The EngineVm outlives its vCPUs and lines; guest memory outlives
// both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"
#include "vmm/cpu/cpu_state.h"
#include "vmm/cpu/cpuid_model.h"
#include "vmm/cpu/platform_state.h"
#include "vmm/cpu/vcpu_counters.h"
#include "vmm/irqchip/irq_line.h"
#include "vmm/memory/guest_memory.h"

namespace sm {

// Why run() came back. For reads, fill `data` before the next run(): it is the guest's register or
// memory operand, valid until then.
struct ExitPio {
  std::uint16_t port;
  bool is_write;
  std::span<std::byte> data;  // 1, 2 or 4 bytes; string I/O arrives one element at a time
};
struct ExitMmio {
  GuestPhysAddr address;
  bool is_write;
  std::span<std::byte> data;  // 1..8 bytes
};
struct ExitHalt {};      // HLT, and nothing this engine knows of could ever wake it
struct ExitKicked {};    // kick() or a signal
struct ExitShutdown {};  // triple fault or a reset request of the CPU itself
struct ExitFault {       // the engine cannot go on with this vCPU
  std::string why;
};
using VcpuExit = std::variant<ExitPio, ExitMmio, ExitHalt, ExitKicked, ExitShutdown, ExitFault>;

class EngineVcpu {
 public:
  virtual ~EngineVcpu() = default;

  // Runs guest instructions until something happens. Thread: the vCPU's own, always the same one.
  virtual VcpuExit run() = 0;
  // Makes the current or, if none is running, the next run() return ExitKicked soon. Kicks are
  // never lost; several before a return may be merged. Any thread.
  virtual void kick() = 0;
  // Completes a port or MMIO exit that was returned by run() but not yet re-entered, so that
  // state() is between two instructions. kInternal when the instruction has further accesses for
  // run() to deliver; kick() and then run() until ExitKicked does that and comes to the same point,
  // since a kicked run() executes nothing beyond the instruction at hand. Thread: the vCPU's own.
  virtual Status finish_pending_exit() = 0;

  // The architectural state. Only while no thread is inside run() and no exit is pending.
  virtual Result<CpuState> state() const = 0;
  // Parts that `state` leaves empty (xsave, lapic) take their reset value; zero apic_base and
  // tsc_khz, a task register that is not present, and MSRs that are not listed stay as they are.
  virtual Status set_state(const CpuState& state) = 0;

  // Where the vCPU is now or was a few milliseconds ago, without stopping it; nothing where the
  // engine does not count. Any thread.
  virtual std::optional<VcpuCounters> counters() { return std::nullopt; }
};

class EngineVm {
 public:
  virtual ~EngineVm() = default;

  virtual std::string_view engine_name() const = 0;  // "kvm", "soft", "fake"
  virtual EngineCpu cpu() const = 0;
  // What a kernel's command line has to say on this engine, before anything of a user's.
  virtual std::string_view kernel_words() const { return {}; }

  // Makes all regions of `memory` visible to the guest. Once, before the first vCPU.
  virtual Status map_memory(const GuestMemory& memory) = 0;
  // The line into IOAPIC pin `gsi` (0..23). Several devices may hold lines to one pin.
  virtual Result<std::unique_ptr<IrqLine>> irq_line(std::uint32_t gsi) = 0;
  // From now on a 32-bit guest write of `value` to `address` only signals `event_fd`. Engines that
  // cannot do that say kUnsupported: then the write arrives as ExitMmio and the device signals
  // itself.
  virtual Status register_ioevent(GuestPhysAddr address, std::uint32_t value, int event_fd) = 0;
  // vCPU `index` (0 = boot processor; the others wait for INIT/SIPI) of `count` in reset state,
  // CPUID already set.
  virtual Result<std::unique_ptr<EngineVcpu>> create_vcpu(std::uint32_t index,
                                                          std::uint32_t count) = 0;

  // The interrupt controller and the clock. Only while no vCPU is in the guest. Setting comes
  // before the vCPUs' set_state(), and the saved machine's clock goes on from where it stood.
  virtual Result<PlatformState> platform_state() const = 0;
  virtual Status set_platform_state(const PlatformState& state) = 0;
};

inline constexpr std::uint32_t kMaxVcpus = 32;

}  // namespace sm
