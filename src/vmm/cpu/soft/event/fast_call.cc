#include "vmm/cpu/soft/event/fast_call.h"

#include "vmm/cpu/soft/event/flags.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/segments.h"

namespace sm::soft {

namespace {

enum class CodeSize : std::uint16_t { k32 = attribute::kBig, k64 = attribute::kLong };

// The flat segments these instructions load without looking at any table.
SegmentRegister flat_segment(std::uint64_t selector, std::uint8_t cpl, std::uint16_t attributes) {
  const auto dpl = static_cast<std::uint16_t>(cpl << attribute::kDplShift);
  const std::uint16_t common = attribute::kPresent | attribute::kCodeOrData | attribute::kGranular |
                               attribute::kReadableOrWritable | attribute::kAccessed;
  return {.limit = 0xFFFFFFFF,
          .selector = with_privilege(static_cast<std::uint16_t>(selector), cpl),
          .attributes = static_cast<std::uint16_t>(common | dpl | attributes),
          .usable = true};
}

void load_flat(Cpu& cpu, std::uint64_t cs, std::uint64_t ss, std::uint8_t cpl, CodeSize size) {
  cpu.segment[static_cast<std::size_t>(Segment::kSs)] = flat_segment(ss, cpl, attribute::kBig);
  const auto code = static_cast<std::uint16_t>(attribute::kCode | static_cast<unsigned>(size));
  set_code_segment(cpu, flat_segment(cs, cpl, code), cpl);
}

bool check_enabled(Cpu& cpu) {
  return (cpu.mode == CodeMode::k64 && (cpu.efer & efer::kSce) != 0) ||
         refuse(cpu, vector::kUndefined);
}

bool check_sysenter_selector(Cpu& cpu) {
  const bool usable = protected_mode(cpu) && (cpu.sysenter_cs & 0xFFFC) != 0;
  return usable || refuse(cpu, vector::kProtection, 0);
}

}  // namespace

Next system_call(Cpu& cpu, std::uint64_t return_rip) {
  if (!check_enabled(cpu)) return Next::kAborted;
  const std::uint64_t flags = cpu.rflags() & ~std::uint64_t{eflags::kRf};
  cpu.gpr[kRcx] = return_rip;
  cpu.gpr[kR11] = flags;
  const std::uint64_t selector = (cpu.star >> 32) & 0xFFFC;
  load_flat(cpu, selector, selector + 8, 0, CodeSize::k64);
  cpu.rip = cpu.lstar;
  load_rflags(cpu, flags & ~cpu.syscall_mask);
  return Next::kJump;
}

Next system_return(Cpu& cpu, std::uint32_t operand_size) {
  if (!check_enabled(cpu) || !check_privileged(cpu)) return Next::kAborted;
  const bool to_64bit = operand_size == 8;
  const std::uint64_t rip = cpu.gpr[kRcx];
  if (to_64bit && !is_canonical_address(rip)) return raise(cpu, vector::kProtection, 0);
  constexpr std::uint64_t kLoaded = 0x3C7FD7;  // all but RF and VM
  const std::uint64_t selector = cpu.star >> 48;
  load_flat(cpu, to_64bit ? selector + 16 : selector, selector + 8, 3,
            to_64bit ? CodeSize::k64 : CodeSize::k32);
  cpu.rip = to_64bit ? rip : rip & 0xFFFFFFFF;
  load_rflags(cpu, cpu.gpr[kR11] & kLoaded);
  return Next::kJump;
}

Next system_enter(Cpu& cpu) {
  if (!check_sysenter_selector(cpu)) return Next::kAborted;
  const bool wide = cpu.long_mode();
  const std::uint64_t selector = cpu.sysenter_cs & 0xFFFC;
  load_flat(cpu, selector, selector + 8, 0, wide ? CodeSize::k64 : CodeSize::k32);
  cpu.gpr[kRsp] = wide ? cpu.sysenter_esp : cpu.sysenter_esp & 0xFFFFFFFF;
  cpu.rip = wide ? cpu.sysenter_eip : cpu.sysenter_eip & 0xFFFFFFFF;
  load_rflags(cpu, cpu.rflags() & ~std::uint64_t{eflags::kIf | eflags::kVm});
  return Next::kJump;
}

Next system_exit(Cpu& cpu, std::uint32_t operand_size) {
  if (!check_sysenter_selector(cpu) || !check_privileged(cpu)) return Next::kAborted;
  const bool wide = operand_size == 8;
  const std::uint64_t rsp = cpu.gpr[kRcx], rip = cpu.gpr[kRdx];
  if (wide && (!is_canonical_address(rsp) || !is_canonical_address(rip))) {
    return raise(cpu, vector::kProtection, 0);
  }
  const std::uint64_t selector = (cpu.sysenter_cs & 0xFFFC) + (wide ? 32 : 16);
  load_flat(cpu, selector, selector + 8, 3, wide ? CodeSize::k64 : CodeSize::k32);
  cpu.gpr[kRsp] = wide ? rsp : rsp & 0xFFFFFFFF;
  cpu.rip = wide ? rip : rip & 0xFFFFFFFF;
  return Next::kJump;
}

}  // namespace sm::soft
