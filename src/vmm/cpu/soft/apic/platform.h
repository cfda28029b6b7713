// Platform and VcpuPlatform: what stands around the software CPU's cores, as the engine builds it:
//
//   Machine machine;  machine.map(memory);
//   Platform platform(machine, std::make_unique<HostClock>(HostCounter::detect()));
//   VcpuPlatform vcpu(platform, cpu, build_cpuid(...));   // sets Cpu::apic, clock, platform
//
// and the engine calls
//   - apic().highest_deliverable() / acknowledge() for kAttentionInterrupt and after EFLAGS.IF,
//     TPR and the interrupt shadow change; apic().take_startup() for kAttentionInit, and
//     init_reset() for the INIT in it; apic().poll_timer() for kAttentionTimer;
//   - begin_halt() and end_halt() around a wait in HLT; take_unhalt() as a reason not to wait, with
//     kAttentionUnhalt to wake (it ends HLT whatever EFLAGS.IF is);
//   - mmio() and port() before it hands an access to the outside.
// The functions of event/platform_calls.h are implemented on top.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "vmm/cpu/cpu_state.h"
#include "vmm/cpu/cpuid_model.h"
#include "vmm/cpu/soft/apic/apic_bus.h"
#include "vmm/cpu/soft/apic/attention_sink.h"
#include "vmm/cpu/soft/apic/io_apic.h"
#include "vmm/cpu/soft/apic/legacy.h"
#include "vmm/cpu/soft/apic/local_apic.h"
#include "vmm/cpu/soft/apic/pv.h"
#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/time/clock.h"
#include "vmm/cpu/soft/time/kvm_clock.h"
#include "vmm/cpu/soft/time/timer_thread.h"
#include "vmm/irqchip/irq_line.h"

namespace sm::soft {

class VcpuPlatform;

// What all vCPUs of a machine share. Any thread, but for what its members say.
class Platform {
 public:
  // With a HostClock: deadlines are kept by a thread of its own. `machine` outlives it.
  Platform(Machine& machine, std::unique_ptr<HostClock> clock);
  // With a VirtualClock: whoever advances it asks `timers` for the next deadline.
  Platform(Machine& machine, VirtualClock& clock, PolledTimers& timers);
  ~Platform();
  Platform(const Platform&) = delete;
  Platform& operator=(const Platform&) = delete;
  Platform(Platform&&) = delete;
  Platform& operator=(Platform&&) = delete;

  // A line into IOAPIC pin `gsi`. The platform outlives it.
  Result<std::unique_ptr<IrqLine>> irq_line(std::uint32_t gsi);
  // Joins the timer thread: no vCPU is posted a timer afterwards. Idempotent; before the vCPUs go.
  void stop();

  Machine& machine() { return machine_; }
  Clock& clock() { return clock_; }
  KvmClock& kvm_clock() { return kvm_clock_; }
  const KvmClock& kvm_clock() const { return kvm_clock_; }
  TimerQueue& timers() { return timers_; }
  AttentionSink& sink() { return sink_; }
  ApicBus& bus() { return bus_; }
  IoApic& io_apic() { return io_apic_; }
  const IoApic& io_apic() const { return io_apic_; }
  LegacyPorts& legacy() { return legacy_; }
  // Null when there is none. Any thread.
  VcpuPlatform* vcpu(std::uint64_t apic_id) const {
    return apic_id < vcpus_.size() ? vcpus_[apic_id].load(std::memory_order_acquire) : nullptr;
  }
  // The machine's counter when the last of its vCPUs left the guest. Stands still while all are
  // out.
  std::uint64_t stopped_tsc() const;

 private:
  friend class VcpuPlatform;
  void begin_restore();
  class MachineSink final : public AttentionSink {
   public:
    explicit MachineSink(Machine& machine) : machine_(machine) {}
    void post(std::uint32_t vcpu, std::uint32_t attention_bits) override;

   private:
    Machine& machine_;
  };

  Machine& machine_;
  MachineSink sink_;
  std::unique_ptr<HostClock> host_clock_;      // null with a virtual one
  std::unique_ptr<TimerThread> timer_thread_;  // the same
  Clock& clock_;
  TimerQueue& timers_;
  KvmClock kvm_clock_;
  ApicBus bus_;
  IoApic io_apic_;
  LegacyPorts legacy_;
  std::array<std::atomic<VcpuPlatform*>, kMaxVcpus> vcpus_{};
  std::mutex restore_mutex_;  // guards what follows and changes of both clocks
  // All vCPUs are restored as of one moment: that of the first.
  struct Restore {
    bool is_under_way = false;
    std::uint64_t at = 0;  // the machine's counter then
    bool has_tsc = false, has_clock = false;
  } restore_;
  std::uint64_t restored_tsc_offset_ = 0;
};

// What one vCPU has. Thread: the vCPU's own, and before it starts.
class VcpuPlatform {
 public:
  // Both outlive it. `cpuid` as build_cpuid() makes it. Puts itself into `cpu`.
  VcpuPlatform(Platform& platform, Cpu& cpu, std::vector<CpuidLeaf> cpuid);
  ~VcpuPlatform();
  VcpuPlatform(const VcpuPlatform&) = delete;
  VcpuPlatform& operator=(const VcpuPlatform&) = delete;
  VcpuPlatform(VcpuPlatform&&) = delete;
  VcpuPlatform& operator=(VcpuPlatform&&) = delete;

  LocalApic& apic() { return apic_; }
  // INIT: the local APIC and the paravirtual registers; time goes on.
  void init_reset();

  // An access to guest-physical space or to a port that the platform answers itself: local APIC,
  // IOAPIC, old chips. False: it belongs to the outside.
  bool mmio(std::uint64_t physical, bool is_write, std::span<std::byte> data);
  bool port(std::uint16_t port, bool is_write, std::span<std::byte> data);

  // Around a wait in HLT. begin_halt() gives the deadline (Clock::ns()) at which the vCPU has to
  // wake itself, since the timer queue forgets it meanwhile. end_halt() raises the timer's
  // interrupt if it is due; true: the vCPU drops all its translations first.
  std::optional<std::uint64_t> begin_halt();
  [[nodiscard]] bool end_halt();
  bool take_unhalt() { return pv_.take_unhalt(); }
  bool knows_kvm() const { return pv_.in_use(); }
  bool has_unhalt() const { return pv_.has_unhalt(); }
  // Any thread: ends the vCPU's HLT, the present or the next one.
  void unhalt();
  // The vCPU has executed its last instruction for now.
  void left_guest() { left_guest_.store(platform_.clock().tsc(), std::memory_order_relaxed); }

  // Fills apic_base, cr8, lapic, tsc_khz and appends its MSRs, in ascending order. The TSC is that
  // of the moment at which the last vCPU left the guest, however long that is ago.
  void save(CpuState& state);
  // Takes the same from a state, in any order of MSRs; the plain ones it skips. A state that lacks
  // a part leaves that part as CpuState says. kUnsupported: an MSR this CPU does not have, or a
  // value that it refuses. All vCPUs that share the machine are out of the guest.
  Status load(const CpuState& state);

  // The functions of event/platform_calls.h.
  bool read_msr(std::uint32_t index, std::uint64_t& value);
  bool write_msr(std::uint32_t index, std::uint64_t value);
  std::uint64_t tsc();
  CpuidLeaf cpuid(std::uint32_t leaf, std::uint32_t subleaf) const;
  std::uint64_t hypercall(std::uint64_t number, std::span<const std::uint64_t, 4> arguments);

 private:
  friend class Platform;
  Status restore_msrs(const CpuState& state);
  bool restore_msr(std::uint32_t index, std::uint64_t value);
  void restore_tsc(std::uint64_t value);
  void restore_tsc_khz(std::uint32_t khz);
  void restore_clock(std::uint64_t system_time_msr);
  void write_tsc(std::uint64_t value);
  void set_tsc_offset(std::uint64_t offset);
  std::uint64_t* stored_msr(std::uint32_t index);
  std::uint64_t kick(std::uint64_t apic_id);
  std::uint64_t send_ipi(std::span<const std::uint64_t, 4> arguments);
  std::uint64_t pair_clocks(std::uint64_t address, std::uint64_t type);

  Platform& platform_;
  Cpu& cpu_;
  std::vector<CpuidLeaf> cpuid_;
  LocalApic apic_;
  PvVcpu pv_;
  std::uint64_t tsc_offset_ = 0;
  std::uint64_t tsc_adjust_ = 0;
  std::uint64_t last_tsc_ = 0;                // of the machine, as this vCPU has seen it
  std::atomic<std::uint64_t> left_guest_{0};  // the machine's counter then
  std::uint64_t machine_check_status_ = 0;
  std::array<std::uint64_t, 4> machine_check_bank_{};  // nothing is ever reported in it
};

}  // namespace sm::soft
