// Shifts and rotations. Count masking and flags, undefined ones included, are the host's.
#include <array>

#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/operand.h"

namespace sm::soft {

namespace {

#define SM_SOFT_OPERATION(Name, function)                     \
  struct Name {                                               \
    template <class T>                                        \
    static T apply(T a, std::uint8_t count, StatusFlags& f) { \
      return host::function(a, count, f);                     \
    }                                                         \
  };
SM_SOFT_OPERATION(Rol, rol)
SM_SOFT_OPERATION(Ror, ror)
SM_SOFT_OPERATION(Rcl, rcl)
SM_SOFT_OPERATION(Rcr, rcr)
SM_SOFT_OPERATION(Shl, shl)
SM_SOFT_OPERATION(Shr, shr)
SM_SOFT_OPERATION(Sar, sar)
#undef SM_SOFT_OPERATION

#define SM_SOFT_OPERATION(Name, function)                          \
  struct Name {                                                    \
    template <class T>                                             \
    static T apply(T a, T b, std::uint8_t count, StatusFlags& f) { \
      return host::function(a, b, count, f);                       \
    }                                                              \
  };
SM_SOFT_OPERATION(Shld, shld)
SM_SOFT_OPERATION(Shrd, shrd)
#undef SM_SOFT_OPERATION

// A count is an immediate or CL: never memory, so that reading it cannot fail.
std::uint8_t read_count(Cpu& cpu, const Insn& insn, std::size_t i) {
  std::uint8_t count = 0;
  read_operand(cpu, insn, i, count);
  return count;
}

template <class Operation>
Next shift(Cpu& cpu, const Insn& insn) {
  return by_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    const std::uint8_t count = read_count(cpu, insn, 1);
    return modify<T>(
        cpu, insn, [&](T old, StatusFlags& flags) { return Operation::apply(old, count, flags); });
  });
}

template <class Operation>
Next double_shift(Cpu& cpu, const Insn& insn) {
  return by_wide_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    const T source = read_gpr<T>(cpu, insn.operand[1].reg);
    const std::uint8_t count = read_count(cpu, insn, 2);
    return modify<T>(cpu, insn, [&](T old, StatusFlags& flags) {
      return Operation::apply(old, source, count, flags);
    });
  });
}

}  // namespace

std::span<const SemanticEntry> shift_semantics() {
  static constexpr std::array kEntries = std::to_array<SemanticEntry>({
      {Op::kRol, shift<Rol>},
      {Op::kRor, shift<Ror>},
      {Op::kRcl, shift<Rcl>},
      {Op::kRcr, shift<Rcr>},
      {Op::kShl, shift<Shl>},
      {Op::kShr, shift<Shr>},
      {Op::kSar, shift<Sar>},
      {Op::kShld, double_shift<Shld>},
      {Op::kShrd, double_shift<Shrd>},
  });
  return kEntries;
}

}  // namespace sm::soft
