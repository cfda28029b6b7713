// PUSH, POP and LEAVE of 64 bits.
#include <array>

#include "vmm/cpu/soft/fast/select.h"
#include "vmm/cpu/soft/fast/step.h"

namespace sm::soft::fast {

namespace {

const Uop* leave(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::uint64_t frame = cpu.gpr[kRbp];
  const std::byte* from = find_bytes(cpu.read_tlb, frame, kStackWord);
  if (from == nullptr) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  cpu.gpr[kRbp] = load_from<std::uint64_t>(from);
  cpu.gpr[kRsp] = frame + kStackWord;
  return go_on(cpu, uop, ahead);
}

Handler select_push(const Choice& choice) {
  static constexpr std::array<Handler, kShapes> kMemory{one<Push<SrcMem<Shape::kBase>>>,
                                                        one<Push<SrcMem<Shape::kIndexed>>>,
                                                        one<Push<SrcMem<Shape::kSegment>>>};
  const Insn& insn = choice.insn;
  if (insn.operand_size != 8) return nullptr;
  switch (insn.operand[0].kind) {
    case OperandKind::kGpr:
      choice.uop.src = choice.uop.dst;
      return one<Push<SrcReg>>;
    case OperandKind::kImm:
      return one<Push<SrcImm>>;
    case OperandKind::kMem:
      return kMemory[shape_index(insn)];
    default:
      return nullptr;
  }
}

Handler select_pop(const Choice& choice) {
  const Insn& insn = choice.insn;
  return insn.operand_size == 8 && is_register(insn.operand[0]) ? one<Pop> : nullptr;
}

Handler select_leave(const Choice& choice) {
  return choice.insn.operand_size == 8 ? leave : nullptr;
}

}  // namespace

std::span<const SelectEntry> stack_selects() {
  static constexpr std::array kEntries = std::to_array<SelectEntry>({
      {Op::kPush, select_push},
      {Op::kPop, select_pop},
      {Op::kLeave, select_leave},
  });
  return kEntries;
}

}  // namespace sm::soft::fast
