// Addition, logic and comparison.
#include <array>

#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/operand.h"

namespace sm::soft {

namespace {

// The operations as types, so that one template covers all sizes of each.
#define SM_SOFT_OPERATION(Name, function)      \
  struct Name {                                \
    template <class T>                         \
    static T apply(T a, T b, StatusFlags& f) { \
      return host::function(a, b, f);          \
    }                                          \
  };
SM_SOFT_OPERATION(Add, add)
SM_SOFT_OPERATION(Sub, sub)
SM_SOFT_OPERATION(Adc, adc)
SM_SOFT_OPERATION(Sbb, sbb)
SM_SOFT_OPERATION(And, bit_and)
SM_SOFT_OPERATION(Or, bit_or)
SM_SOFT_OPERATION(Xor, bit_xor)
#undef SM_SOFT_OPERATION

struct Inc {
  template <class T>
  static T apply(T a, StatusFlags& f) {
    return host::inc(a, f);
  }
};
struct Dec {
  template <class T>
  static T apply(T a, StatusFlags& f) {
    return host::dec(a, f);
  }
};
struct Neg {
  template <class T>
  static T apply(T a, StatusFlags& f) {
    return host::neg(a, f);
  }
};
struct Not {
  template <class T>
  static T apply(T a, StatusFlags&) {
    return static_cast<T>(~a);
  }
};

template <class Operation>
Next binary(Cpu& cpu, const Insn& insn) {
  return by_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    T source = 0;
    if (!read_operand(cpu, insn, 1, source)) return Next::kAborted;
    return modify<T>(
        cpu, insn, [&](T old, StatusFlags& flags) { return Operation::apply(old, source, flags); });
  });
}

template <class Operation>
Next unary(Cpu& cpu, const Insn& insn) {
  return by_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    return modify<T>(cpu, insn,
                     [](T old, StatusFlags& flags) { return Operation::apply(old, flags); });
  });
}

// CMP, TEST: flags only.
template <class Operation>
Next compare(Cpu& cpu, const Insn& insn) {
  return by_size(insn.operand[0].size, [&](auto tag) {
    decltype(tag) a = 0, b = 0;
    if (!read_operand(cpu, insn, 0, a) || !read_operand(cpu, insn, 1, b)) return Next::kAborted;
    Operation::apply(a, b, cpu.status);
    return Next::kNext;
  });
}

// ADCX, ADOX: addition with one flag as carry, the other flags untouched.
template <std::uint32_t kCarry>
Next add_with(Cpu& cpu, const Insn& insn) {
  return by_wide_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    T source = 0;
    if (!read_operand(cpu, insn, 1, source)) return Next::kAborted;
    const std::uint8_t reg = insn.operand[0].reg;
    const bool carry = (cpu.status.eflags() & kCarry) != 0;
    T sum = 0;
    const bool first = __builtin_add_overflow(read_gpr<T>(cpu, reg), source, &sum);
    const bool second = __builtin_add_overflow(sum, static_cast<T>(carry), &sum);
    write_gpr<T>(cpu, reg, sum);
    cpu.status = with_flag(cpu.status, kCarry, first || second);
    return Next::kNext;
  });
}

Next crc32(Cpu& cpu, const Insn& insn) {
  return by_size(insn.operand[1].size, [&](auto tag) {
    decltype(tag) data = 0;
    if (!read_operand(cpu, insn, 1, data)) return Next::kAborted;
    const std::uint8_t reg = insn.operand[0].reg;
    // The sum has 32 bits in the 64-bit form as well.
    write_gpr(cpu, reg, host::crc32(read_gpr<std::uint32_t>(cpu, reg), data));
    return Next::kNext;
  });
}

}  // namespace

std::span<const SemanticEntry> alu_semantics() {
  static constexpr std::array kEntries = std::to_array<SemanticEntry>({
      {Op::kAdd, binary<Add>},
      {Op::kOr, binary<Or>},
      {Op::kAdc, binary<Adc>},
      {Op::kSbb, binary<Sbb>},
      {Op::kAnd, binary<And>},
      {Op::kSub, binary<Sub>},
      {Op::kXor, binary<Xor>},
      {Op::kCmp, compare<Sub>},
      {Op::kTest, compare<And>},
      {Op::kInc, unary<Inc>},
      {Op::kDec, unary<Dec>},
      {Op::kNeg, unary<Neg>},
      {Op::kNot, unary<Not>},
      {Op::kAdcx, add_with<eflags::kCf>},
      {Op::kAdox, add_with<eflags::kOf>},
      {Op::kCrc32, crc32},
  });
  return kEntries;
}

}  // namespace sm::soft
