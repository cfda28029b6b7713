// Near branches. Those that are joined with the comparison before them: fused.cc.
#include <array>
#include <utility>

#include "vmm/cpu/soft/exec/operand.h"
#include "vmm/cpu/soft/fast/jump.h"
#include "vmm/cpu/soft/fast/operands.h"
#include "vmm/cpu/soft/fast/select.h"

namespace sm::soft::fast {

namespace {

constexpr std::uint64_t kWord = 8;

// Where CALL puts the return address; null in a slow case.
std::byte* locate_push(const Cpu& cpu) {
  return find_bytes(cpu.write_tlb, cpu.gpr[kRsp] - kWord, kWord);
}
void push_return(Cpu& cpu, const Uop* uop, std::byte* at) {
  store_to(at, cpu.gpr[17] + uop->next);
  cpu.gpr[kRsp] -= kWord;
}

template <std::uint8_t kCondition>
const Uop* jcc(Cpu& cpu, const Uop* uop, Ahead ahead) {
  if (condition_holds(cpu.status, kCondition)) return branch(cpu, uop);
  return go_on(cpu, uop, ahead);
}

// Also the end of a block that goes on in another.
template <bool kFar>
const Uop* jmp(Cpu& cpu, const Uop* uop, Ahead /*ahead*/) {
  return kFar ? branch_far(cpu, uop) : branch(cpu, uop);
}
template <bool kFar>
const Uop* call(Cpu& cpu, const Uop* uop, Ahead ahead) {
  std::byte* to = locate_push(cpu);
  if (to == nullptr) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  push_return(cpu, uop, to);
  return kFar ? branch_far(cpu, uop) : branch(cpu, uop);
}

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
  return branch_to(cpu, uop, target, entry);
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
  return branch_to(cpu, uop, target, entry);
}
const Uop* ret(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::byte* from = find_bytes(cpu.read_tlb, cpu.gpr[kRsp], kWord);
  if (from == nullptr) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  const auto target = load_from<std::uint64_t>(from);
  const JumpEntry& entry = jump_entry(cpu, target);
  if (entry.address != target) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  cpu.gpr[kRsp] += kWord + static_cast<std::uint16_t>(uop->imm);
  return branch_to(cpu, uop, target, entry);
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
  return {jcc<kConditions>...};
}
Handler select_jcc(const Choice& choice) {
  static constexpr auto kHandlers = jcc_handlers(std::make_index_sequence<16>());
  return fill_target(choice.insn, choice.uop) ? kHandlers[choice.insn.condition] : nullptr;
}

struct BranchForms {
  Handler near, far, reg;
  std::array<Handler, kShapes> mem;
};
constexpr BranchForms kJmp{jmp<false>,
                           jmp<true>,
                           jmp_to<SrcReg>,
                           {jmp_to<SrcMem<Shape::kBase>>, jmp_to<SrcMem<Shape::kIndexed>>,
                            jmp_to<SrcMem<Shape::kSegment>>}};
constexpr BranchForms kCall{call<false>,
                            call<true>,
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
  return ret;
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

Handler exit_handler(std::int32_t disp) { return in_page(disp) ? jmp<false> : jmp<true>; }

}  // namespace sm::soft::fast
