// BCD arithmetic, invalid in 64-bit mode. Flags that the manuals leave undefined are as Intel's
// processors make them: cleared, or of AAD's addition.
#include <array>

#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/operand.h"

namespace sm::soft {

namespace {

std::uint8_t read_al(const Cpu& cpu) { return read_gpr<std::uint8_t>(cpu, kRax); }
void write_al(Cpu& cpu, std::uint8_t value) { write_gpr(cpu, kRax, value); }

bool adjust_flag(const Cpu& cpu) { return (cpu.status.eflags() & eflags::kAf) != 0; }

// SF, ZF and PF of a result, the others off.
StatusFlags result_flags(std::uint8_t value) {
  StatusFlags flags;
  host::bit_or(value, value, flags);
  return flags;
}

// AAA, AAS: carry a decimal digit of al into ah.
template <bool kAdd>
Next ascii_adjust(Cpu& cpu, const Insn& /*insn*/) {
  const auto ax = read_gpr<std::uint16_t>(cpu, kRax);
  const bool carry = (ax & 0xF) > 9 || adjust_flag(cpu);
  std::uint16_t result = ax;
  if (carry) result = static_cast<std::uint16_t>(kAdd ? ax + 0x106 : ax - 0x106);
  result &= 0xFF0F;
  write_gpr(cpu, kRax, result);
  const StatusFlags flags = result_flags(static_cast<std::uint8_t>(result));
  cpu.status = with_flag(flags, eflags::kAf | eflags::kCf, carry);
  return Next::kNext;
}

// DAA, DAS: two packed digits.
template <bool kAdd>
Next packed_adjust(Cpu& cpu, const Insn& /*insn*/) {
  const std::uint8_t al = read_al(cpu);
  const bool low = (al & 0xF) > 9 || adjust_flag(cpu);
  const bool high = al > 0x99 || cpu.status.cf();
  // Subtracting 6 may borrow out of al: that counts as a carry, of addition it is contained in
  // `high`.
  const bool borrow = !kAdd && low && al < 6;
  const int correction = (low ? 0x06 : 0) + (high ? 0x60 : 0);
  const auto result = static_cast<std::uint8_t>(kAdd ? al + correction : al - correction);
  write_al(cpu, result);
  const StatusFlags flags = with_flag(result_flags(result), eflags::kAf, low);
  cpu.status = with_flag(flags, eflags::kCf, high || borrow);
  return Next::kNext;
}

// ah:al = al / base, al % base.
Next aam(Cpu& cpu, const Insn& insn) {
  const auto base = static_cast<std::uint8_t>(insn.imm);
  if (base == 0) return raise(cpu, vector::kDivide);
  const std::uint8_t al = read_al(cpu);
  const auto digit = static_cast<std::uint8_t>(al % base);
  write_gpr(cpu, kRax, static_cast<std::uint16_t>(al / base << 8 | digit));
  cpu.status = result_flags(digit);
  return Next::kNext;
}

// al = ah * base + al, ah = 0.
Next aad(Cpu& cpu, const Insn& insn) {
  const auto base = static_cast<std::uint8_t>(insn.imm);
  const auto ah = read_gpr<std::uint8_t>(cpu, kHighByteRegisters);
  const std::uint8_t value =
      host::add(read_al(cpu), static_cast<std::uint8_t>(ah * base), cpu.status);
  write_gpr(cpu, kRax, std::uint16_t{value});
  return Next::kNext;
}

}  // namespace

std::span<const SemanticEntry> decimal_semantics() {
  static constexpr std::array kEntries = std::to_array<SemanticEntry>({
      {Op::kAaa, ascii_adjust<true>},
      {Op::kAas, ascii_adjust<false>},
      {Op::kDaa, packed_adjust<true>},
      {Op::kDas, packed_adjust<false>},
      {Op::kAam, aam},
      {Op::kAad, aad},
  });
  return kEntries;
}

}  // namespace sm::soft
