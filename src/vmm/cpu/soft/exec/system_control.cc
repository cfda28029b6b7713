// Control, debug and model-specific registers, and invalidation of translations.
// Spec: SDM vol. 2, MOV, LMSW, SMSW, CLTS, RDMSR, WRMSR, INVLPG, INVPCID.
#include <array>

#include "vmm/cpu/soft/event/debug.h"
#include "vmm/cpu/soft/event/descriptor.h"
#include "vmm/cpu/soft/event/mmu_calls.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/platform_calls.h"
#include "vmm/cpu/soft/exec/control_registers.h"
#include "vmm/cpu/soft/exec/msr.h"
#include "vmm/cpu/soft/exec/system.h"

namespace sm::soft {

namespace {

// 8 bytes in 64-bit mode, otherwise 4, whatever the prefixes say.
std::uint8_t native_size(const Cpu& cpu) { return cpu.mode == CodeMode::k64 ? 8 : 4; }

bool read_control(Cpu& cpu, std::uint8_t number, std::uint64_t& value) {
  switch (number) {
    case 0:
      value = cpu.cr0;
      return true;
    case 2:
      value = cpu.cr2;
      return true;
    case 3:
      value = cpu.cr3;
      return true;
    case 4:
      value = cpu.cr4;
      return true;
    case 8:
      value = platform_cr8(cpu);
      return true;
    default:
      return refuse(cpu, vector::kUndefined);
  }
}

bool write_control(Cpu& cpu, std::uint8_t number, std::uint64_t value) {
  switch (number) {
    case 0:
      return write_cr0(cpu, value);
    case 2:
      cpu.cr2 = value;
      return true;
    case 3:
      return write_cr3(cpu, value);
    case 4:
      return write_cr4(cpu, value);
    case 8:
      return write_cr8(cpu, value);
    default:
      return refuse(cpu, vector::kUndefined);
  }
}

Next mov_control(Cpu& cpu, const Insn& insn) {
  const Operand &to = insn.operand[0], &from = insn.operand[1];
  if (!check_privileged(cpu)) return Next::kAborted;
  const std::uint8_t size = native_size(cpu);
  if (from.kind == OperandKind::kControl) {
    std::uint64_t value = 0;
    if (!read_control(cpu, from.reg, value)) return Next::kAborted;
    write_sized(cpu, to.reg, size, value);
    return Next::kNext;
  }
  const std::uint64_t next = next_rip(cpu, insn);
  if (!write_control(cpu, to.reg, read_sized(cpu, from.reg, size))) return Next::kAborted;
  return start_over(cpu, next);
}

Next mov_debug(Cpu& cpu, const Insn& insn) {
  const Operand &to = insn.operand[0], &from = insn.operand[1];
  if (!check_privileged(cpu)) return Next::kAborted;
  const std::uint8_t size = native_size(cpu);
  if (from.kind == OperandKind::kDebug) {
    std::uint64_t value = 0;
    if (!read_debug(cpu, from.reg, value)) return Next::kAborted;
    write_sized(cpu, to.reg, size, value);
    return Next::kNext;
  }
  return write_debug(cpu, to.reg, read_sized(cpu, from.reg, size)) ? Next::kNext : Next::kAborted;
}

Next smsw(Cpu& cpu, const Insn& insn) {
  return check_umip(cpu) ? write_word(cpu, insn, cpu.cr0) : Next::kAborted;
}

// Loads the low four bits of CR0, but cannot leave protected mode.
Next lmsw(Cpu& cpu, const Insn& insn) {
  constexpr std::uint64_t kLoaded = cr0::kPe | cr0::kMp | cr0::kEm | cr0::kTs;
  std::uint16_t word = 0;
  if (!check_privileged(cpu) || !read_selector(cpu, insn, 0, word)) return Next::kAborted;
  const std::uint64_t kept = (cpu.cr0 & ~kLoaded) | (cpu.cr0 & cr0::kPe);
  const std::uint64_t next = next_rip(cpu, insn);
  if (!write_cr0(cpu, kept | (word & kLoaded))) return Next::kAborted;
  return start_over(cpu, next);
}

Next clts(Cpu& cpu, const Insn& /*insn*/) {
  if (!check_privileged(cpu)) return Next::kAborted;
  cpu.cr0 &= ~cr0::kTs;
  return Next::kNext;
}

Next rdmsr(Cpu& cpu, const Insn& /*insn*/) {
  std::uint64_t value = 0;
  if (!check_privileged(cpu) || !read_msr(cpu, read_gpr<std::uint32_t>(cpu, kRcx), value)) {
    return Next::kAborted;
  }
  write_gpr(cpu, kRax, static_cast<std::uint32_t>(value));
  write_gpr(cpu, kRdx, static_cast<std::uint32_t>(value >> 32));
  return Next::kNext;
}

Next wrmsr(Cpu& cpu, const Insn& insn) {
  const auto index = read_gpr<std::uint32_t>(cpu, kRcx);
  const std::uint64_t value =
      std::uint64_t{read_gpr<std::uint32_t>(cpu, kRdx)} << 32 | read_gpr<std::uint32_t>(cpu, kRax);
  if (!check_privileged(cpu) || !write_msr(cpu, index, value)) return Next::kAborted;
  return index == msr::kEfer ? start_over(cpu, next_rip(cpu, insn)) : Next::kNext;
}

// The address is not checked: a page that cannot be is not there.
Next invlpg(Cpu& cpu, const Insn& insn) {
  if (!check_privileged(cpu)) return Next::kAborted;
  std::uint64_t linear = effective_offset(cpu, insn);
  const bool has_base =
      cpu.mode != CodeMode::k64 || insn.segment == Segment::kFs || insn.segment == Segment::kGs;
  if (has_base) linear += cpu.segment[static_cast<std::size_t>(insn.segment)].base;
  if (cpu.mode != CodeMode::k64) linear &= 0xFFFFFFFF;
  invalidate_page(cpu, linear);
  return start_over(cpu, next_rip(cpu, insn));
}

Next invpcid(Cpu& cpu, const Insn& insn) {
  if (!check_privileged(cpu)) return Next::kAborted;
  constexpr std::uint64_t kTypes = 4, kPcids = 4096;
  const std::uint64_t type = read_sized(cpu, insn.operand[0].reg, native_size(cpu));
  if (type >= kTypes) return raise(cpu, vector::kProtection, 0);
  struct Target {
    std::uint64_t pcid;
    std::uint64_t linear;
  } target{};
  if (!load_operand(cpu, insn, target)) return Next::kAborted;
  const auto kind = static_cast<InvpcidType>(type);
  const bool names_pcid = kind == InvpcidType::kAddress || kind == InvpcidType::kSingle;
  if (target.pcid >= kPcids || (names_pcid && target.pcid != 0 && (cpu.cr4 & cr4::kPcide) == 0) ||
      (kind == InvpcidType::kAddress && !is_canonical_address(target.linear))) {
    return raise(cpu, vector::kProtection, 0);
  }
  invalidate_pcid(cpu, kind, static_cast<std::uint16_t>(target.pcid), target.linear);
  return start_over(cpu, next_rip(cpu, insn));
}

constexpr auto kEntries = std::to_array<SemanticEntry>({
    {Op::kMovControl, mov_control},
    {Op::kMovDebug, mov_debug},
    {Op::kSmsw, smsw},
    {Op::kLmsw, lmsw},
    {Op::kClts, clts},
    {Op::kRdmsr, rdmsr},
    {Op::kWrmsr, wrmsr},
    {Op::kInvlpg, invlpg},
    {Op::kInvpcid, invpcid},
});

}  // namespace

std::span<const SemanticEntry> control_register_semantics() { return kEntries; }

}  // namespace sm::soft
