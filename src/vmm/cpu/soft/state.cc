#include "vmm/cpu/soft/state.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "vmm/cpu/soft/event/segments.h"
#include "vmm/cpu/soft/reset.h"

namespace sm::soft {

namespace {

// Members of both forms that are the same number.
constexpr std::array<std::pair<std::uint64_t CpuState::*, std::uint64_t Cpu::*>, 5> kRegisters = {
    {{&CpuState::cr0, &Cpu::cr0},
     {&CpuState::cr2, &Cpu::cr2},
     {&CpuState::cr3, &Cpu::cr3},
     {&CpuState::cr4, &Cpu::cr4},
     {&CpuState::efer, &Cpu::efer}}};

constexpr std::array<std::pair<SegmentState CpuState::*, Segment>, 6> kSegments = {
    {{&CpuState::es, Segment::kEs},
     {&CpuState::cs, Segment::kCs},
     {&CpuState::ss, Segment::kSs},
     {&CpuState::ds, Segment::kDs},
     {&CpuState::fs, Segment::kFs},
     {&CpuState::gs, Segment::kGs}}};

// Spec: SDM vol. 4, table 2-2.
constexpr std::array<std::pair<std::uint32_t, std::uint64_t Cpu::*>, 11> kMsrs = {
    {{0x174, &Cpu::sysenter_cs},
     {0x175, &Cpu::sysenter_esp},
     {0x176, &Cpu::sysenter_eip},
     {0x1A0, &Cpu::misc_enable},
     {0x277, &Cpu::pat},
     {0xC000'0081, &Cpu::star},
     {0xC000'0082, &Cpu::lstar},
     {0xC000'0083, &Cpu::cstar},
     {0xC000'0084, &Cpu::syscall_mask},
     {0xC000'0102, &Cpu::kernel_gs_base},
     {0xC000'0103, &Cpu::tsc_aux}}};

constexpr std::uint64_t kProtectedMode = 1ull << 0, kPaging = 1ull << 31;
constexpr std::uint64_t kPae = 1ull << 5;
constexpr std::uint64_t kLongModeEnable = 1ull << 8, kLongModeActive = 1ull << 10;

// ---- XSAVE area. Spec: SDM vol. 1, 13.4.
constexpr std::size_t kLegacySize = sizeof(FxState), kHeaderSize = 64;
constexpr std::uint64_t kX87Part = 1, kSsePart = 2;
constexpr std::uint32_t kMxcsrBits = 0xFFFF;
constexpr std::uint64_t kXcr0X87 = 1, kXcr0X87Sse = 3;

std::vector<std::byte> save_fx(const FxState& fx) {
  std::vector<std::byte> area(kLegacySize + kHeaderSize);
  std::memcpy(area.data(), &fx, kLegacySize);
  const std::uint64_t parts = kX87Part | kSsePart;
  std::memcpy(area.data() + kLegacySize, &parts, sizeof(parts));
  return area;
}

Result<FxState> load_fx(const std::vector<std::byte>& area) {
  FxState fx;
  if (area.empty()) return fx;
  if (area.size() < kLegacySize + kHeaderSize) {
    return fail(Code::kCorrupt, fmt::format("an XSAVE area of {} bytes", area.size()));
  }
  std::array<std::uint64_t, 2> header;  // XSTATE_BV, XCOMP_BV
  std::memcpy(header.data(), area.data() + kLegacySize, sizeof(header));
  if ((header[0] & ~(kX87Part | kSsePart)) != 0 || header[1] != 0) {
    return fail(Code::kUnsupported,
                fmt::format("the state uses processor extensions {:#x} that the software CPU does "
                            "not have",
                            header[0] & ~(kX87Part | kSsePart)),
                "save and restore with the CPU model x86-64-v2");
  }
  FxState saved;
  std::memcpy(&saved, area.data(), kLegacySize);
  const FxState reset;
  fx = saved;
  fx.reserved = 0;
  fx.mxcsr &= kMxcsrBits;
  fx.mxcsr_mask = reset.mxcsr_mask;
  fx.padding = {};
  if ((header[0] & kX87Part) == 0) {
    fx.control = reset.control;
    fx.status = reset.status;
    fx.abridged_tag = reset.abridged_tag;
    fx.opcode = 0;
    fx.instruction_pointer = fx.data_pointer = 0;
    fx.st = {};
  }
  if ((header[0] & kSsePart) == 0) fx.xmm = {};
  return fx;
}

Status check_control_registers(const CpuState& state) {
  const bool paging = (state.cr0 & kPaging) != 0;
  const bool enabled = (state.efer & kLongModeEnable) != 0;
  const bool active = (state.efer & kLongModeActive) != 0;
  const bool sane = (!paging || (state.cr0 & kProtectedMode) != 0) &&
                    active == (paging && enabled) && (!active || (state.cr4 & kPae) != 0);
  if (sane) return {};
  return fail(Code::kCorrupt, fmt::format("impossible control registers: cr0 {:#x}, cr4 {:#x}, "
                                          "efer {:#x}",
                                          state.cr0, state.cr4, state.efer));
}

// The two kinds of shadow have each other's numbers in CpuState, which follows KVM.
std::uint8_t swap_shadow(std::uint8_t shadow) {
  constexpr std::array<std::uint8_t, 4> kSwapped = {0, 2, 1, 2};
  return kSwapped[shadow & 3];
}

// Spec: SDM vol. 3, 5.5: in long mode SS has a DPL even when it is unusable.
std::uint8_t privilege_of(const CpuState& state) {
  if ((state.cr0 & kProtectedMode) == 0) return 0;
  if ((state.rflags & eflags::kVm) != 0) return 3;
  return state.ss.dpl & 3;
}

}  // namespace

SegmentState save_segment(const SegmentRegister& segment) {
  const std::uint16_t bits = segment.attributes;
  return {.base = segment.base,
          .limit = segment.limit,
          .selector = segment.selector,
          .type = static_cast<std::uint8_t>(bits & 0xF),
          .dpl = static_cast<std::uint8_t>((bits >> 5) & 3),
          .present = (bits & 1u << 7) != 0,
          .code_or_data = (bits & 1u << 4) != 0,
          .long_mode = (bits & 1u << 13) != 0,
          .default_big = (bits & 1u << 14) != 0,
          .granularity = (bits & 1u << 15) != 0,
          .available = (bits & 1u << 12) != 0,
          .unusable = !segment.usable};
}

SegmentRegister load_segment(const SegmentState& segment) {
  const auto flag = [](bool value, unsigned bit) { return value ? 1u << bit : 0u; };
  const std::uint32_t bits = (segment.type & 0xFu) | flag(segment.code_or_data, 4) |
                             (segment.dpl & 3u) << 5 | flag(segment.present, 7) |
                             flag(segment.available, 12) | flag(segment.long_mode, 13) |
                             flag(segment.default_big, 14) | flag(segment.granularity, 15);
  return {.base = segment.base,
          .limit = segment.limit,
          .selector = segment.selector,
          .attributes = static_cast<std::uint16_t>(bits),
          .usable = segment.present && !segment.unusable};
}

void save_cpu(const Cpu& cpu, CpuState& state) {
  std::copy_n(cpu.gpr.begin(), state.gpr.size(), state.gpr.begin());
  state.rip = cpu.rip;
  state.rflags = cpu.rflags();
  for (const auto& [theirs, ours] : kRegisters) state.*theirs = cpu.*ours;
  for (const auto& [theirs, ours] : kSegments) {
    state.*theirs = save_segment(cpu.segment[static_cast<std::size_t>(ours)]);
  }
  state.tr = save_segment(cpu.task);
  state.ldt = save_segment(cpu.ldt);
  state.gdt = {cpu.gdt.base, cpu.gdt.limit};
  state.idt = {cpu.idt.base, cpu.idt.limit};
  state.xcr0 = kXcr0X87;
  state.dr = cpu.dr;
  state.dr6 = cpu.dr6;
  state.dr7 = cpu.dr7;
  state.xsave = save_fx(cpu.fx);
  for (const auto& [index, member] : kMsrs) state.msrs.push_back({index, cpu.*member});
  state.events.interrupt_shadow = swap_shadow(cpu.interrupt_shadow);
  state.events.nmi_masked = cpu.nmi_masked;
}

Status load_cpu(const CpuState& state, Cpu& cpu) {
  SM_TRY_STATUS(check_control_registers(state));
  if (state.events.smi_smm || state.events.smi_pending) {
    return fail(Code::kUnsupported, "the state is in system management mode");
  }
  if ((state.xcr0 & ~kXcr0X87Sse) != 0) {
    return fail(Code::kUnsupported, "the state needs XSAVE, which the software CPU does not have",
                "save and restore with the CPU model x86-64-v2");
  }
  cpu.fx = SM_TRY(load_fx(state.xsave));
  std::copy(state.gpr.begin(), state.gpr.end(), cpu.gpr.begin());
  cpu.gpr[kNoRegister] = 0;
  cpu.rip = state.rip;
  cpu.set_rflags(state.rflags);
  for (const auto& [theirs, ours] : kRegisters) cpu.*ours = state.*theirs;
  for (const auto& [theirs, ours] : kSegments) {
    cpu.segment[static_cast<std::size_t>(ours)] = load_segment(state.*theirs);
  }
  if (state.tr.present) cpu.task = load_segment(state.tr);
  cpu.ldt = load_segment(state.ldt);
  cpu.gdt = {state.gdt.base, state.gdt.limit};
  cpu.idt = {state.idt.base, state.idt.limit};
  cpu.dr = state.dr;
  cpu.dr6 = (state.dr6 & 0xFFFF'FFFF) | 0xFFFF'0FF0;
  cpu.dr7 = (state.dr7 & 0xFFFF'FFFF) | 0x400;
  for (const auto& [index, member] : kMsrs) {
    const auto found =
        std::find_if(state.msrs.begin(), state.msrs.end(),
                     [wanted = index](const MsrValue& msr) { return msr.index == wanted; });
    if (found != state.msrs.end()) cpu.*member = found->value;
  }
  cpu.interrupt_shadow = swap_shadow(state.events.interrupt_shadow);
  cpu.nmi_masked = state.events.nmi_masked;
  cpu.cpl = privilege_of(state);
  cpu.fault = {};
  cpu.io.clear();
  cpu.shutdown = false;
  cpu.mode = code_mode_of(cpu);
  return {};
}

}  // namespace sm::soft
