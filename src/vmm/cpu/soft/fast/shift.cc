// Shifts and rotations.
#include "vmm/cpu/soft/fast/shift.h"

#include <array>

#include "vmm/cpu/soft/fast/select.h"

namespace sm::soft::fast {

namespace {

template <class Operation, class T, Shape kShape, class Count>
const Uop* shift_memory(Cpu& cpu, const Uop* uop, Ahead ahead) {
  using Memory = DstMem<kShape>;
  std::byte* to = Memory::template locate<T>(cpu, uop);
  if (to == nullptr) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  const auto count = load_from<std::uint8_t>(Count::template locate<std::uint8_t>(cpu, uop));
  Memory::template store<T>(to, Operation::apply(load_from<T>(to), count, cpu.status));
  return go_on(cpu, uop, ahead);
}

// By flags: 0 not needed, 1 needed; by shape.
struct Forms {
  std::array<Handler, 2> by_imm;
  std::array<Handler, 2> by_cl;
  std::array<Handler, kShapes> mem_by_imm;
  std::array<Handler, kShapes> mem_by_cl;
};
template <class Operation, class T, class Count>
constexpr std::array<Handler, kShapes> kMemory{shift_memory<Operation, T, Shape::kBase, Count>,
                                               shift_memory<Operation, T, Shape::kIndexed, Count>,
                                               shift_memory<Operation, T, Shape::kSegment, Count>};
template <class Operation, class T>
constexpr Forms shift_forms() {
  constexpr bool kShort = sizeof(T) < 4;
  return {
      .by_imm = {one<Shift<Operation, T, SrcImm, kShort>>, one<Shift<Operation, T, SrcImm, true>>},
      .by_cl = {one<Shift<Operation, T, SrcReg, kShort>>, one<Shift<Operation, T, SrcReg, true>>},
      .mem_by_imm = kMemory<Operation, T, SrcImm>,
      .mem_by_cl = kMemory<Operation, T, SrcReg>};
}
template <class Operation>
constexpr std::array<Forms, kSizes> kShift{
    shift_forms<Operation, std::uint8_t>(), shift_forms<Operation, std::uint16_t>(),
    shift_forms<Operation, std::uint32_t>(), shift_forms<Operation, std::uint64_t>()};

template <class Operation>
Handler select_shift(const Choice& choice) {
  const Insn& insn = choice.insn;
  const Forms& forms = kShift<Operation>[size_index(insn.operand[0].size)];
  const bool by_imm = is_immediate(insn.operand[1]);
  if (is_memory(insn.operand[0])) {
    return (by_imm ? forms.mem_by_imm : forms.mem_by_cl)[shape_index(insn)];
  }
  return (by_imm ? forms.by_imm : forms.by_cl)[choice.flags_needed ? 1 : 0];
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
