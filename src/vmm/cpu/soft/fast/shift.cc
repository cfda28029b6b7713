// Shifts and rotations of registers.
#include "vmm/cpu/soft/fast/shift.h"

#include <array>

#include "vmm/cpu/soft/fast/select.h"

namespace sm::soft::fast {

namespace {

// By flags: 0 not needed, 1 needed.
struct Forms {
  std::array<Handler, 2> by_imm;
  std::array<Handler, 2> by_cl;
};
template <class Operation, class T>
constexpr Forms shift_forms() {
  constexpr bool kShort = sizeof(T) < 4;
  return {
      .by_imm = {one<Shift<Operation, T, SrcImm, kShort>>, one<Shift<Operation, T, SrcImm, true>>},
      .by_cl = {one<Shift<Operation, T, SrcReg, kShort>>, one<Shift<Operation, T, SrcReg, true>>}};
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
