// Indirect near branches, and which handler a near branch gets. The others: last.h, fused.h.
#include <array>
#include <utility>

#include "vmm/cpu/soft/fast/last.h"
#include "vmm/cpu/soft/fast/select.h"

namespace sm::soft::fast {

namespace {

// Targets that the jump cache does not know go through the semantic function, which also finds what
// is wrong with them.
template <class Source>
const Uop* jmp_to(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::byte* from = Source::template locate<std::uint64_t>(cpu, uop);
  if constexpr (Source::kIsMemory) {
    if (from == nullptr) [[unlikely]]
      return run_semantic(cpu, uop, ahead);
  }
  const auto target = load_from<std::uint64_t>(from);
  const JumpEntry& entry = jump_entry(cpu, target);
  if (entry.address != target) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  return branch_to(cpu, uop, target, entry.block);
}
template <class Source>
const Uop* call_to(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::byte* from = Source::template locate<std::uint64_t>(cpu, uop);
  if constexpr (Source::kIsMemory) {
    if (from == nullptr) [[unlikely]]
      return run_semantic(cpu, uop, ahead);
  }
  const auto target = load_from<std::uint64_t>(from);
  const JumpEntry& entry = jump_entry(cpu, target);
  std::byte* to = locate_push(cpu);
  if (entry.address != target || to == nullptr) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  push_return(cpu, uop, to);
  return branch_to(cpu, uop, target, entry.block);
}

// ---- Choice of branches

// Puts the target in the form of Uop::disp. False: it does not fit.
bool fill_target(const Insn& insn, Uop& uop) {
  const std::int64_t disp = uop.next + insn.imm;
  uop.disp = static_cast<std::int32_t>(disp);
  uop.target = nullptr;
  uop.executed = static_cast<std::uint8_t>(uop.place + 1);
  return insn.operand_size != 2 && uop.disp == disp;
}

template <std::size_t... kConditions>
constexpr std::array<Handler, 16> jcc_handlers(std::index_sequence<kConditions...>) {
  return {last<Jcc<kConditions>>...};
}
Handler select_jcc(const Choice& choice) {
  static constexpr auto kHandlers = jcc_handlers(std::make_index_sequence<16>());
  return fill_target(choice.insn, choice.uop) ? kHandlers[choice.insn.condition] : nullptr;
}

struct BranchForms {
  Handler near, far, reg;
  std::array<Handler, kShapes> mem;
};
constexpr BranchForms kJmp{last<Jmp<false>>,
                           last<Jmp<true>>,
                           jmp_to<SrcReg>,
                           {jmp_to<SrcMem<Shape::kBase>>, jmp_to<SrcMem<Shape::kIndexed>>,
                            jmp_to<SrcMem<Shape::kSegment>>}};
constexpr BranchForms kCall{last<Call<false>>,
                            last<Call<true>>,
                            call_to<SrcReg>,
                            {call_to<SrcMem<Shape::kBase>>, call_to<SrcMem<Shape::kIndexed>>,
                             call_to<SrcMem<Shape::kSegment>>}};

Handler select_branch(const BranchForms& forms, const Choice& choice) {
  const Insn& insn = choice.insn;
  Uop& uop = choice.uop;
  if (insn.operand_size == 2) return nullptr;
  uop.executed = static_cast<std::uint8_t>(uop.place + 1);
  switch (insn.operand[0].kind) {
    case OperandKind::kRel:
      if (!fill_target(insn, uop)) return nullptr;
      return in_page(uop.disp) ? forms.near : forms.far;
    case OperandKind::kGpr:
      uop.src = uop.dst;
      return forms.reg;
    case OperandKind::kMem:
      return forms.mem[shape_index(insn)];
    default:
      return nullptr;
  }
}
Handler select_jmp(const Choice& choice) { return select_branch(kJmp, choice); }
Handler select_call(const Choice& choice) { return select_branch(kCall, choice); }
Handler select_ret(const Choice& choice) {
  if (choice.insn.operand_size != 8) return nullptr;
  choice.uop.executed = static_cast<std::uint8_t>(choice.uop.place + 1);
  if (choice.insn.operand_count == 0) choice.uop.imm = 0;
  return last<Ret>;
}

}  // namespace

std::span<const SelectEntry> branch_selects() {
  static constexpr std::array kEntries = std::to_array<SelectEntry>({
      {Op::kJcc, select_jcc},
      {Op::kJmpNear, select_jmp},
      {Op::kCallNear, select_call},
      {Op::kRetNear, select_ret},
  });
  return kEntries;
}

Handler exit_handler(std::int32_t disp) {
  return in_page(disp) ? last<Jmp<false>> : last<Jmp<true>>;
}

}  // namespace sm::soft::fast
