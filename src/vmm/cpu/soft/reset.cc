#include "vmm/cpu/soft/reset.h"

#include "vmm/cpu/soft/event/segments.h"
#include "vmm/cpu/soft/mmu/mmu.h"

namespace sm::soft {

namespace {

// Present, accessed, writable data; for CS the same as code.
constexpr std::uint16_t kRealModeData = 0x93, kRealModeCode = 0x9B;
constexpr std::uint16_t kLdtAttributes = 0x82, kBusyTssAttributes = 0x8B;

SegmentRegister real_mode_segment(std::uint16_t attributes) {
  return {.limit = 0xFFFF, .attributes = attributes, .usable = true};
}

void reset_segments(Cpu& cpu) {
  cpu.segment.fill(real_mode_segment(kRealModeData));
  SegmentRegister& cs = cpu.segment[static_cast<std::size_t>(Segment::kCs)];
  cs = real_mode_segment(kRealModeCode);
  cs.selector = 0xF000;
  cs.base = 0xFFFF'0000;
  cpu.ldt = real_mode_segment(kLdtAttributes);
  cpu.task = real_mode_segment(kBusyTssAttributes);
  cpu.gdt = cpu.idt = {.base = 0, .limit = 0xFFFF};
}

}  // namespace

void init_cpu(Cpu& cpu) {
  constexpr std::uint64_t kCacheBits = 0x6000'0000;  // CD and NW
  constexpr std::uint64_t kExtensionType = 1u << 4;
  constexpr std::uint64_t kFamilyModelStepping = 0x0006'0000;  // in EDX; its details matter to none
  cpu.gpr.fill(0);
  cpu.gpr[kRdx] = kFamilyModelStepping;
  cpu.rip = 0xFFF0;
  cpu.set_rflags(2);
  cpu.cpl = 0;
  reset_segments(cpu);
  cpu.cr0 = (cpu.cr0 & kCacheBits) | kExtensionType;
  cpu.cr2 = cpu.cr3 = cpu.cr4 = cpu.efer = 0;
  cpu.dr.fill(0);
  cpu.dr6 = 0xFFFF'0FF0;
  cpu.dr7 = 0x400;
  cpu.fault = {};
  cpu.io.clear();
  cpu.interrupt_shadow = 0;
  cpu.halted = cpu.nmi_masked = cpu.shutdown = false;
  cpu.mode = code_mode_of(cpu);
  if (cpu.mmu != nullptr) cpu.mmu->paging_changed();
}

void reset_cpu(Cpu& cpu) {
  cpu.cr0 = 0x6000'0010;
  cpu.fx = {};
  // At a reset, unlike FNINIT's 0x37F; SDM vol. 1, 8.1.5.
  cpu.fx.control = 0x40;
  cpu.star = cpu.lstar = cpu.cstar = cpu.syscall_mask = cpu.kernel_gs_base = 0;
  cpu.sysenter_cs = cpu.sysenter_esp = cpu.sysenter_eip = 0;
  cpu.pat = 0x0007'0406'0007'0406;
  cpu.tsc_aux = 0;
  cpu.misc_enable = 1;
  init_cpu(cpu);
}

void start_cpu_at(Cpu& cpu, std::uint8_t vector) {
  SegmentRegister& cs = cpu.segment[static_cast<std::size_t>(Segment::kCs)];
  cs.selector = static_cast<std::uint16_t>(vector << 8);
  cs.base = static_cast<std::uint64_t>(vector) << 12;
  cpu.rip = 0;
}

}  // namespace sm::soft
