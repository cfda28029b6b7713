// Shifts and rotations of registers.
#include <array>

#include "vmm/cpu/soft/exec/flags.h"
#include "vmm/cpu/soft/fast/operands.h"
#include "vmm/cpu/soft/fast/select.h"

namespace sm::soft::fast {

namespace {

// plain() gets a count below the operand's width, which is 32 or 64 bits.
#define SM_SOFT_OPERATION(Name, function, expression)         \
  struct Name {                                               \
    template <class T>                                        \
    static T apply(T a, std::uint8_t count, StatusFlags& f) { \
      return host::function(a, count, f);                     \
    }                                                         \
    template <class T>                                        \
    static T plain(T a, unsigned count) {                     \
      using Signed [[maybe_unused]] = std::make_signed_t<T>;  \
      return static_cast<T>(expression);                      \
    }                                                         \
  };
SM_SOFT_OPERATION(Rol, rol, std::rotl(a, static_cast<int>(count)))
SM_SOFT_OPERATION(Ror, ror, std::rotr(a, static_cast<int>(count)))
SM_SOFT_OPERATION(Shl, shl, a << count)
SM_SOFT_OPERATION(Shr, shr, a >> count)
SM_SOFT_OPERATION(Sar, sar, static_cast<Signed>(a) >> count)
#undef SM_SOFT_OPERATION

template <class Operation, class T, class Count, bool kFlags>
const Uop* shift(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const auto count = load_from<std::uint8_t>(Count::template locate<std::uint8_t>(cpu, uop));
  T a = read_gpr_at<T>(cpu, uop->dst);
  if constexpr (kFlags) {
    a = Operation::apply(a, count, cpu.status);
  } else {
    a = Operation::plain(a, count % (sizeof(T) * 8));
  }
  write_gpr_at<T>(cpu, uop->dst, a);
  return go_on(cpu, uop, ahead);
}

// By flags: 0 not needed, 1 needed.
struct Forms {
  std::array<Handler, 2> by_imm;
  std::array<Handler, 2> by_cl;
};
template <class Operation, class T>
constexpr Forms shift_forms() {
  constexpr bool kShort = sizeof(T) < 4;
  return {.by_imm = {shift<Operation, T, SrcImm, kShort>, shift<Operation, T, SrcImm, true>},
          .by_cl = {shift<Operation, T, SrcReg, kShort>, shift<Operation, T, SrcReg, true>}};
}
template <class Operation>
constexpr std::array<Forms, kSizes> kShift{
    shift_forms<Operation, std::uint8_t>(), shift_forms<Operation, std::uint16_t>(),
    shift_forms<Operation, std::uint32_t>(), shift_forms<Operation, std::uint64_t>()};

template <class Operation>
Handler select_shift(const Choice& choice) {
  const Insn& insn = choice.insn;
  if (!is_register(insn.operand[0])) return nullptr;
  const Forms& forms = kShift<Operation>[size_index(insn.operand[0].size)];
  return (is_immediate(insn.operand[1]) ? forms.by_imm : forms.by_cl)[choice.flags_needed ? 1 : 0];
}

}  // namespace

std::span<const SelectEntry> shift_selects() {
  static constexpr std::array kEntries = std::to_array<SelectEntry>({
      {Op::kRol, select_shift<Rol>},
      {Op::kRor, select_shift<Ror>},
      {Op::kShl, select_shift<Shl>},
      {Op::kShr, select_shift<Shr>},
      {Op::kSar, select_shift<Sar>},
  });
  return kEntries;
}

}  // namespace sm::soft::fast
