// LocalApic: the interrupt controller and timer of one vCPU, as xAPIC page and as x2APIC MSRs.
//
//   IA32_APIC_BASE:  disabled <--> xAPIC --> x2APIC --> disabled     (anything else raises #GP)
//
// Thread: the vCPU's own, but for the functions under "any thread". Those set IRR, TMR and the
// start-up latch, and read the few registers that say whether a message is meant for this APIC.
// Spec: SDM vol. 3, chapter 10 (11 in newer editions).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "vmm/cpu/soft/apic/apic_bus.h"
#include "vmm/cpu/soft/apic/apic_timer.h"
#include "vmm/cpu/soft/apic/attention_sink.h"

namespace sm::soft {

inline constexpr std::size_t kLapicPageSize = 1024;  // what a state holds of the register page

// An INIT or SIPI that arrived. An INIT comes before the SIPI when both are there.
struct StartupEvents {
  bool init = false;
  bool sipi = false;
  std::uint8_t sipi_vector = 0;
};

class LocalApic {
 public:
  struct Config {
    std::uint32_t index = 0;  // of the vCPU, and its APIC id; 0 is the boot processor
    AttentionSink& sink;
    ApicBus& bus;
    const Clock& clock;
    TimerQueue& timers;
  };
  // All that is referenced outlives it. In reset state: xAPIC mode, software-disabled.
  explicit LocalApic(const Config& config);
  LocalApic(const LocalApic&) = delete;
  LocalApic& operator=(const LocalApic&) = delete;
  LocalApic(LocalApic&&) = delete;
  LocalApic& operator=(LocalApic&&) = delete;
  ~LocalApic() = default;

  std::uint32_t id() const { return index_; }

  // ---- Interrupts on their way into the CPU ----
  // The vector that the CPU would take now if EFLAGS.IF allowed it.
  std::optional<std::uint8_t> highest_deliverable();
  // The CPU takes `vector`, which highest_deliverable() has just returned: IRR -> ISR.
  void acknowledge(std::uint8_t vector);
  // INIT and SIPI that arrived since the last call.
  StartupEvents take_startup();
  // The APIC's share of VcpuPlatform::init_reset(): as after power-up, but IA32_APIC_BASE stays.
  void init_reset();

  // ---- Registers ----
  // IA32_APIC_BASE. False: #GP.
  std::uint64_t base() const { return base_.load(std::memory_order_relaxed); }
  [[nodiscard]] bool write_base(std::uint64_t value);
  bool enabled() const { return (base() & kBaseEnable) != 0; }
  bool x2apic() const {
    return (base() & (kBaseEnable | kBaseX2apic)) == (kBaseEnable | kBaseX2apic);
  }
  // True when the xAPIC page answers at this guest-physical address.
  bool claims(std::uint64_t guest_physical) const;

  // The xAPIC page: `offset` 0..0xFFF. Only aligned 32-bit accesses are defined; others read as
  // zero and write nothing.
  std::uint32_t read_mmio(std::uint32_t offset, std::uint32_t size);
  void write_mmio(std::uint32_t offset, std::uint32_t size, std::uint32_t value);
  // MSRs 0x800..0x8FF. False: #GP.
  [[nodiscard]] bool read_x2apic(std::uint32_t msr, std::uint64_t& value);
  [[nodiscard]] bool write_x2apic(std::uint32_t msr, std::uint64_t value);
  // CR8: TPR bits 4..7.
  std::uint64_t cr8() const { return read(kTpr) >> 4; }
  void set_cr8(std::uint64_t priority);
  // IA32_TSC_DEADLINE in the guest's TSC; reads as 0 and ignores writes in the other timer modes.
  std::uint64_t tsc_deadline() const { return timer_.tsc_deadline(); }
  void write_tsc_deadline(std::uint64_t value);
  // The guest's TSC is Clock::tsc() plus this; an armed deadline moves with it.
  void set_tsc_offset(std::uint64_t offset);

  // ---- Timer ----
  // Raises the timer's interrupt if it is due. For kAttentionTimer and after a wait in HLT.
  void poll_timer();
  // When the timer is due, in Clock::ns(); nothing when it is not running.
  std::optional<std::uint64_t> next_deadline() const { return timer_.deadline_ns(); }
  // The vCPU is about to wait in HLT and wakes itself by next_deadline(): the timer queue forgets
  // it. end_halt() polls the timer and hands a running one to the queue again.
  std::optional<std::uint64_t> begin_halt();
  void end_halt();

  // ---- Paravirtual end of interrupt ----
  // A guest word whose bit 0 the guest clears instead of writing EOI, or null to switch it off. The
  // word is RAM that outlives its use. See KVM's MSR_KVM_PV_EOI_EN.
  void set_pv_eoi(std::uint32_t* word);

  // ---- State: the register page in the layout of the SDM's table 10-1, 32 bits every 16 bytes.
  // In both modes the id stands in bits 24..31 of its register; in x2APIC mode the high half of the
  // ICR stands in the second ICR register. The vCPU is not running. ----
  void save(std::span<std::byte, kLapicPageSize> page);
  // After the base, which says how the page is to be read. Hostile pages do no harm.
  void load(std::span<const std::byte, kLapicPageSize> page);
  // Any mode from any other. False: no such mode or address.
  [[nodiscard]] bool restore_base(std::uint64_t value);
  // As after power-up.
  void reset();

  // ---- Any thread ----
  // Takes a message whose destination has been checked. False: the APIC is off for it.
  bool accept(const ApicMessage& message);
  // True when `message` names this APIC as destination.
  bool matches(const ApicMessage& message) const;
  // Whether it takes fixed interrupts.
  bool takes_interrupts() const { return enabled() && software_enabled(); }
  // What arbitration of lowest-priority messages compares: PPR.
  std::uint32_t processor_priority() const;

  static constexpr std::uint64_t kBaseBoot = 1u << 8, kBaseX2apic = 1u << 10,
                                 kBaseEnable = 1u << 11;

 private:
  // Registers by their offset in the page / 16, which is also their x2APIC MSR - 0x800.
  enum Register : std::uint32_t {
    kId = 0x02,
    kVersion = 0x03,
    kTpr = 0x08,
    kApr = 0x09,
    kPpr = 0x0A,
    kEoi = 0x0B,
    kRrd = 0x0C,
    kLdr = 0x0D,
    kDfr = 0x0E,
    kSvr = 0x0F,
    kIsr = 0x10,
    kTmr = 0x18,
    kIrr = 0x20,
    kEsr = 0x28,
    kIcr = 0x30,
    kIcrHigh = 0x31,
    kLvtTimer = 0x32,
    kLvtThermal = 0x33,
    kLvtCounter = 0x34,
    kLvtLint0 = 0x35,
    kLvtLint1 = 0x36,
    kLvtError = 0x37,
    kInitialCount = 0x38,
    kCurrentCount = 0x39,
    kDivide = 0x3E,
    kSelfIpi = 0x3F,
    kRegisters = 0x40,
  };
  // Relaxed: what orders a message against its receiver is the sink's post.
  std::uint32_t read(std::uint32_t index) const {
    return registers_[index].load(std::memory_order_relaxed);
  }
  void write(std::uint32_t index, std::uint32_t value) {
    registers_[index].store(value, std::memory_order_relaxed);
  }
  bool bit(Register bank, std::uint8_t vector) const;
  void set_bit(Register bank, std::uint8_t vector);
  void clear_bit(Register bank, std::uint8_t vector);
  int highest(Register bank) const;  // -1: none

  void reset_registers();
  std::uint32_t x2apic_ldr() const { return (index_ >> 4) << 16 | 1u << (index_ & 15); }
  bool software_enabled() const { return (read(kSvr) & 0x100) != 0; }
  std::uint32_t value_of(std::uint32_t index);
  void store(std::uint32_t index, std::uint32_t value);
  void write_svr(std::uint32_t value);
  void write_lvt(std::uint32_t index, std::uint32_t value);
  void write_esr();
  void write_icr(std::uint32_t low, std::uint32_t destination);
  void write_eoi();
  void finish_highest();
  void take_pv_eoi();
  void latch_startup(const ApicMessage& message);
  void raise(std::uint8_t vector, bool level);
  void report_error(std::uint32_t bits);
  void reconsider();

  const std::uint32_t index_;
  AttentionSink& sink_;
  ApicBus& bus_;
  std::array<std::atomic<std::uint32_t>, kRegisters> registers_{};
  std::atomic<std::uint64_t> base_{0};
  std::atomic<std::uint32_t> errors_{0};   // since ESR was last written
  std::atomic<std::uint32_t> startup_{0};  // see take_startup()
  std::uint32_t* pv_eoi_word_ = nullptr;
  bool pv_eoi_pending_ = false;  // the word was set at the last acknowledge
  ApicTimer timer_;
};

}  // namespace sm::soft
