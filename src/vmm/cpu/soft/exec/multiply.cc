// Multiplication and division.
#include <array>
#include <limits>

#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/operand.h"

namespace sm::soft {

namespace {

using host::Pair;

template <class T>
inline constexpr std::uint8_t kHighHalf = sizeof(T) == 1 ? std::uint8_t{kHighByteRegisters}
                                                         : std::uint8_t{kRdx};

// The implied double-width operand: ax for bytes, otherwise dx:ax, edx:eax, rdx:rax.
template <class T>
Pair<T> read_wide(const Cpu& cpu) {
  return {read_gpr<T>(cpu, kRax), read_gpr<T>(cpu, kHighHalf<T>)};
}
template <class T>
void write_wide(Cpu& cpu, Pair<T> value) {
  write_gpr<T>(cpu, kRax, value.low);
  write_gpr<T>(cpu, kHighHalf<T>, value.high);
}

Next mul(Cpu& cpu, const Insn& insn) {
  return by_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    T source = 0;
    if (!read_operand(cpu, insn, 0, source)) return Next::kAborted;
    write_wide<T>(cpu, host::mul_wide(read_gpr<T>(cpu, kRax), source, cpu.status));
    return Next::kNext;
  });
}

Next imul_wide(Cpu& cpu, const Insn& insn) {
  return by_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    T source = 0;
    if (!read_operand(cpu, insn, 0, source)) return Next::kAborted;
    write_wide<T>(cpu, host::imul_wide(read_gpr<T>(cpu, kRax), source, cpu.status));
    return Next::kNext;
  });
}

// One operand: like MUL. Two: destination *= source. Three: destination = source * immediate.
Next imul(Cpu& cpu, const Insn& insn) {
  if (insn.operand_count == 1) return imul_wide(cpu, insn);
  return by_wide_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    const std::uint8_t reg = insn.operand[0].reg;
    T a = read_gpr<T>(cpu, reg);
    T b = 0;
    if (!read_operand(cpu, insn, 1, b)) return Next::kAborted;
    if (insn.operand_count == 3) a = static_cast<T>(insn.imm);
    write_gpr<T>(cpu, reg, host::imul(a, b, cpu.status));
    return Next::kNext;
  });
}

// Also false for a divisor of zero.
template <class T>
bool quotient_fits(Pair<T> dividend, T divisor) {
  return dividend.high < divisor;
}

template <class T>
bool signed_quotient_fits(Pair<T> dividend, T divisor) {
  constexpr T kSign = static_cast<T>(T{1} << (std::numeric_limits<T>::digits - 1));
  const bool dividend_negative = (dividend.high & kSign) != 0;
  const bool divisor_negative = (divisor & kSign) != 0;
  if (divisor_negative) divisor = static_cast<T>(-divisor);
  if (dividend_negative) {
    dividend.low = static_cast<T>(-dividend.low);
    dividend.high = static_cast<T>(~dividend.high + (dividend.low == 0));
  }
  if (!quotient_fits(dividend, divisor)) return false;
  StatusFlags ignored;
  const T quotient = host::div(dividend, divisor, ignored).low;
  return dividend_negative != divisor_negative ? quotient <= kSign : quotient < kSign;
}

Next div(Cpu& cpu, const Insn& insn) {
  return by_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    T divisor = 0;
    if (!read_operand(cpu, insn, 0, divisor)) return Next::kAborted;
    const Pair<T> dividend = read_wide<T>(cpu);
    if (!quotient_fits(dividend, divisor)) return raise(cpu, vector::kDivide);
    write_wide<T>(cpu, host::div(dividend, divisor, cpu.status));
    return Next::kNext;
  });
}

Next idiv(Cpu& cpu, const Insn& insn) {
  return by_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    T divisor = 0;
    if (!read_operand(cpu, insn, 0, divisor)) return Next::kAborted;
    const Pair<T> dividend = read_wide<T>(cpu);
    if (!signed_quotient_fits(dividend, divisor)) return raise(cpu, vector::kDivide);
    write_wide<T>(cpu, host::idiv(dividend, divisor, cpu.status));
    return Next::kNext;
  });
}

}  // namespace

std::span<const SemanticEntry> multiply_semantics() {
  static constexpr std::array kEntries = std::to_array<SemanticEntry>({
      {Op::kMul, mul},
      {Op::kImul, imul},
      {Op::kDiv, div},
      {Op::kIdiv, idiv},
  });
  return kEntries;
}

}  // namespace sm::soft
