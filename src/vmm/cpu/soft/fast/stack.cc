// PUSH, POP and LEAVE of 64 bits.
#include <array>

#include "vmm/cpu/soft/fast/operands.h"
#include "vmm/cpu/soft/fast/select.h"

namespace sm::soft::fast {

namespace {

constexpr std::uint64_t kWord = 8;

template <class Source>
const Uop* push(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::byte* from = Source::template locate<std::uint64_t>(cpu, uop);
  if constexpr (Source::kIsMemory) {
    if (from == nullptr) [[unlikely]]
      return run_semantic(cpu, uop, ahead);
  }
  const std::uint64_t top = cpu.gpr[kRsp] - kWord;
  std::byte* to = find_bytes(cpu.write_tlb, top, kWord);
  if (to == nullptr) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  store_to(to, load_from<std::uint64_t>(from));
  cpu.gpr[kRsp] = top;
  return go_on(cpu, uop, ahead);
}

// The pointer first, so that POP RSP leaves what was popped.
const Uop* pop(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::uint64_t top = cpu.gpr[kRsp];
  const std::byte* from = find_bytes(cpu.read_tlb, top, kWord);
  if (from == nullptr) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  const auto value = load_from<std::uint64_t>(from);
  cpu.gpr[kRsp] = top + kWord;
  write_gpr_at(cpu, uop->dst, value);
  return go_on(cpu, uop, ahead);
}

const Uop* leave(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::uint64_t frame = cpu.gpr[kRbp];
  const std::byte* from = find_bytes(cpu.read_tlb, frame, kWord);
  if (from == nullptr) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  cpu.gpr[kRbp] = load_from<std::uint64_t>(from);
  cpu.gpr[kRsp] = frame + kWord;
  return go_on(cpu, uop, ahead);
}

Handler select_push(const Choice& choice) {
  static constexpr std::array<Handler, kShapes> kMemory{
      push<SrcMem<Shape::kBase>>, push<SrcMem<Shape::kIndexed>>, push<SrcMem<Shape::kSegment>>};
  const Insn& insn = choice.insn;
  if (insn.operand_size != 8) return nullptr;
  switch (insn.operand[0].kind) {
    case OperandKind::kGpr:
      choice.uop.src = choice.uop.dst;
      return push<SrcReg>;
    case OperandKind::kImm:
      return push<SrcImm>;
    case OperandKind::kMem:
      return kMemory[shape_index(insn)];
    default:
      return nullptr;
  }
}

Handler select_pop(const Choice& choice) {
  const Insn& insn = choice.insn;
  return insn.operand_size == 8 && is_register(insn.operand[0]) ? pop : nullptr;
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
