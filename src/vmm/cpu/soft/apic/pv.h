// PvVcpu: the paravirtual services of one vCPU in KVM's interface: kvm-clock and wall clock, steal
// time with remote TLB flushes, end of interrupt by memory, hypercalls.
// Thread: the vCPU's own, but for unhalt(). Guest pages are reached through Machine, word by word.
// Spec: Linux Documentation/virt/kvm/x86/{cpuid,msr,hypercalls}.rst.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "vmm/cpu/soft/apic/local_apic.h"
#include "vmm/cpu/soft/time/kvm_clock.h"

namespace sm::soft {

class Machine;

// Features in CPUID 0x40000001 EAX, by bit.
namespace pv_feature {
inline constexpr std::uint32_t kClockSource = 1u << 0, kNoIoDelay = 1u << 1,
                               kClockSource2 = 1u << 3, kStealTime = 1u << 5, kPvEoi = 1u << 6,
                               kUnhalt = 1u << 7, kTlbFlush = 1u << 9, kSendIpi = 1u << 11,
                               kSchedYield = 1u << 13, kClockStable = 1u << 24;
inline constexpr std::uint32_t kAll = kClockSource | kNoIoDelay | kClockSource2 | kStealTime |
                                      kPvEoi | kUnhalt | kTlbFlush | kSendIpi | kSchedYield |
                                      kClockStable;
}  // namespace pv_feature

namespace pv_msr {
inline constexpr std::uint32_t kWallClockOld = 0x11, kSystemTimeOld = 0x12, kWallClock = 0x4B564D00,
                               kSystemTime = 0x4B564D01, kStealTime = 0x4B564D03,
                               kPvEoi = 0x4B564D04;
}

// Copies to or from guest-physical memory; false where any of it is not RAM (the rest is copied).
bool read_guest(const Machine& machine, std::uint64_t at, std::span<std::byte> out);
bool write_guest(Machine& machine, std::uint64_t at, std::span<const std::byte> in);

class PvVcpu {
 public:
  // All outlive it.
  PvVcpu(Machine& machine, KvmClock& clock, LocalApic& apic)
      : machine_(machine), clock_(clock), apic_(apic) {}

  // False: no such MSR, or a value it refuses.
  bool read_msr(std::uint32_t index, std::uint64_t& value) const;
  bool write_msr(std::uint32_t index, std::uint64_t value, std::uint64_t tsc_offset);
  // The same for a saved value: the wall clock's page stays as the guest has it.
  bool restore_msr(std::uint32_t index, std::uint64_t value, std::uint64_t tsc_offset);
  // INIT: every structure is given up, since whoever boots the vCPU next may use the memory
  // otherwise.
  void reset();
  // The vCPU's TSC jumped: its clock page follows.
  void tsc_offset_changed(std::uint64_t tsc_offset);

  // The vCPU begins and ends to wait in HLT: other vCPUs then leave a TLB flush for later instead
  // of interrupting it. True: everything in the TLB is to be dropped before it goes on.
  void begin_halt();
  [[nodiscard]] bool end_halt();

  // KVM_HC_KICK_CPU. Any thread. Sticky: a HLT that follows ends at once.
  void unhalt() { unhalt_.store(true); }
  // The guest has asked for KVM's clock.
  bool in_use() const { return system_time_msr_ != 0; }
  bool has_unhalt() const { return unhalt_.load(); }
  bool take_unhalt() { return unhalt_.load(std::memory_order_relaxed) && unhalt_.exchange(false); }

  // What the vCPU's clock page says for `guest_tsc`, if the MSR's value points to a page that was
  // in use.
  std::optional<std::uint64_t> clock_ns(std::uint64_t system_time_msr,
                                        std::uint64_t guest_tsc) const;

 private:
  void publish_clock(std::uint64_t tsc_offset);
  void write_wall_clock();
  bool set_steal_time(std::uint64_t value);
  bool set_pv_eoi(std::uint64_t value);

  Machine& machine_;
  KvmClock& clock_;
  LocalApic& apic_;
  std::uint64_t wall_clock_msr_ = 0;
  std::uint64_t system_time_msr_ = 0;
  std::uint64_t steal_time_msr_ = 0;
  std::byte* preempted_ = nullptr;  // the byte of the guest's structure
  std::uint64_t pv_eoi_msr_ = 0;
  std::atomic<bool> unhalt_{false};
};

}  // namespace sm::soft
