// CpuState: the complete architectural state of one x86-64 vCPU, the same for every engine. Plain
// data, no host structs, no pointers: it is what a snapshot stores.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sm {

// Spec: Intel SDM vol. 3, 3.4.5. `limit` in bytes (granularity already applied).
struct SegmentState {
  std::uint64_t base = 0;
  std::uint32_t limit = 0;
  std::uint16_t selector = 0;
  std::uint8_t type = 0;
  std::uint8_t dpl = 0;
  bool present = false;
  bool code_or_data = false;  // the S bit
  bool long_mode = false;     // the L bit
  bool default_big = false;   // the D/B bit
  bool granularity = false;
  bool available = false;
  bool unusable = false;
  bool operator==(const SegmentState&) const = default;
};

struct DescriptorTable {
  std::uint64_t base = 0;
  std::uint16_t limit = 0;
  bool operator==(const DescriptorTable&) const = default;
};

struct MsrValue {
  std::uint32_t index = 0;
  std::uint64_t value = 0;
  bool operator==(const MsrValue&) const = default;
};

enum class MpState : std::uint8_t {
  kRunnable,
  kUninitialized,
  kInitReceived,
  kHalted,
  kSipiReceived
};

// Interrupts and exceptions that were accepted or are being injected. Spec: SDM vol. 3, 6
// and 24.8.3.
struct EventState {
  bool exception_injected = false;
  bool exception_pending = false;
  std::uint8_t exception_vector = 0;
  bool exception_has_error_code = false;
  std::uint32_t exception_error_code = 0;
  bool exception_has_payload = false;
  std::uint64_t exception_payload = 0;
  bool interrupt_injected = false;
  std::uint8_t interrupt_vector = 0;
  bool interrupt_soft = false;
  std::uint8_t interrupt_shadow = 0;
  bool nmi_injected = false;
  bool nmi_pending = false;
  bool nmi_masked = false;
  std::uint32_t sipi_vector = 0;
  bool smi_smm = false;
  bool smi_pending = false;
  bool operator==(const EventState&) const = default;
};

struct CpuState {
  // rax rcx rdx rbx rsp rbp rsi rdi r8..r15: the encoding order.
  std::array<std::uint64_t, 16> gpr{};
  std::uint64_t rip = 0;
  std::uint64_t rflags = 2;

  SegmentState cs, ds, es, fs, gs, ss, tr, ldt;
  DescriptorTable gdt, idt;
  std::uint64_t cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, cr8 = 0;
  std::uint64_t efer = 0;
  std::uint64_t apic_base = 0;
  std::uint64_t xcr0 = 1;
  std::array<std::uint64_t, 4> dr{};
  std::uint64_t dr6 = 0xFFFF0FF0, dr7 = 0x400;

  // The XSAVE area in standard (not compacted) form, at least 512 + 64 bytes; empty = reset state.
  std::vector<std::byte> xsave;
  // All other MSRs, sorted by index, each once.
  std::vector<MsrValue> msrs;
  // The local APIC's register page (1 KiB, SDM vol. 3 table 10-1); empty = reset state.
  std::vector<std::byte> lapic;
  EventState events;
  MpState mp_state = MpState::kRunnable;
  std::uint32_t tsc_khz = 0;

  bool operator==(const CpuState&) const = default;
};

}  // namespace sm
