#include "vmm/cpu/soft/fast/translate.h"

#include "vmm/cpu/soft/decode/decoder.h"
#include "vmm/cpu/soft/fast/chain.h"
#include "vmm/cpu/soft/fast/flag_use.h"
#include "vmm/cpu/soft/fast/select.h"

namespace sm::soft {

namespace {

using namespace fast;

constexpr std::size_t kPage = 4096;
// Of conditional branches a block goes on behind: code behind them is translated once more when
// something jumps there.
constexpr std::size_t kMaxConditions = 2;

using SelectTable = std::array<Select, static_cast<std::size_t>(Op::kCount)>;

SelectTable joined() {
  SelectTable table{};
  for (const auto group :
       {alu_selects(), multiply_selects(), shift_selects(), bit_selects(), atomic_selects(),
        flag_selects(), move_selects(), stack_selects(), branch_selects(), string_selects(),
        vector_move_selects(), vector_packed_selects(), vector_float_selects()}) {
    for (const SelectEntry& entry : group) {
      table[static_cast<std::size_t>(entry.op)] = entry.select;
    }
  }
  return table;
}

Select select_of(Op op) {
  static const SelectTable table = joined();
  return table[static_cast<std::size_t>(op)];
}

// Nothing is executed behind these.
bool always_leaves(const Insn& insn) {
  switch (insn.op) {
    case Op::kJmpNear:
    case Op::kJmpFar:
    case Op::kCallNear:
    case Op::kCallFar:
    case Op::kRetNear:
    case Op::kRetFar:
    case Op::kIret:
    case Op::kSyscall:
    case Op::kSysret:
    case Op::kSysenter:
    case Op::kSysexit:
    case Op::kInt:
    case Op::kInt1:
    case Op::kInt3:
    case Op::kUd0:
    case Op::kUd1:
    case Op::kUd2:
    case Op::kHlt:
    case Op::kInvlpg:
    case Op::kInvpcid:
      return true;
    case Op::kMovControl:
      return insn.operand[0].kind == OperandKind::kControl;
    default:
      return false;
  }
}

struct BlockEnd {
  std::size_t at = 0;    // where the next instruction is, from the page's start
  bool crosses = false;  // and it goes on in the next page
};
// The instructions of the block. What follows STI is the last one: behind it interrupts that waited
// are delivered, before a CLI that may come next.
BlockEnd decode_block(std::span<const std::uint8_t> bytes, std::size_t offset,
                      TranslatedBlock& out) {
  std::size_t at = offset;
  std::size_t conditions = 0;
  out.count = 0;
  while (out.count < kMaxBlock && at < kPage) {
    Insn& insn = out.insns[out.count];
    const DecodeResult result = decode(bytes.subspan(at - offset), CodeMode::k64, insn);
    if (result != DecodeResult::kOk) return {at, result == DecodeResult::kTruncated};
    Uop& uop = out.uops[out.count] = {};
    uop.offset = static_cast<std::uint16_t>(at);
    at += insn.length;
    uop.next = static_cast<std::uint16_t>(at);
    uop.place = static_cast<std::uint8_t>(out.count++);
    const Op op = insn.op;
    const bool follows_sti = out.count > 1 && out.insns[out.count - 2].op == Op::kSti;
    const bool last_condition = op == Op::kJcc && ++conditions == kMaxConditions;
    if (always_leaves(insn) || follows_sti || last_condition) break;
  }
  return {at, false};
}

// Exchanges, whose functions look at the prefix themselves.
bool is_exchange(Op op) { return op == Op::kCmpxchg || op == Op::kXadd || op == Op::kXchg; }

Handler choose_handler(const Insn& insn, bool flags_needed, bool is_last, Uop& uop) {
  if (insn.op == Op::kHlt) return run_semantic_and_leave;
  if (insn.op == Op::kSti && !is_last) return sti_handler();
  const Select select = select_of(insn.op);
  if (select == nullptr || !fill_operands(insn, uop.offset, uop)) return run_semantic;
  const Handler handler =
      insn.lock && !is_exchange(insn.op) ? select_locked(insn) : select({insn, flags_needed, uop});
  return handler == nullptr ? run_semantic : handler;
}

// Backwards, since an instruction has to leave its flags only where somebody looks at them.
void choose_handlers(TranslatedBlock& out) {
  bool flags_needed = true;  // by the next block
  for (std::size_t i = out.count; i-- > 0;) {
    const Insn& insn = out.insns[i];
    Uop& uop = out.uops[i];
    uop.handler = choose_handler(insn, flags_needed, i + 1 == out.count, uop);
    // Whatever may stop in a semantic function shows the flags before it.
    flags_needed = uop.handler == run_semantic || uop.handler == run_semantic_and_leave ||
                   flags_needed_before(insn, flags_needed);
  }
}

void join_branches(TranslatedBlock& out) {
  for (std::size_t i = 0; i + 1 < out.count; ++i) {
    const Insn& branch = out.insns[i + 1];
    Uop& uop = out.uops[i];
    if (branch.op != Op::kJcc || uop.handler == run_semantic ||
        out.uops[i + 1].handler == run_semantic) {
      continue;
    }
    if (const Handler joined = select_fused(out.insns[i], branch.condition)) {
      uop.handler = joined;
    }
  }
}

}  // namespace

namespace fast {

bool fill_operands(const Insn& insn, std::uint16_t offset, Uop& uop) {
  constexpr std::uint8_t kHighByteRegisters = 16;
  const auto place = [](const Operand& operand) {
    if (operand.kind == OperandKind::kXmm) return static_cast<std::uint8_t>(operand.reg * 16);
    const bool high = operand.size == 1 && operand.reg >= kHighByteRegisters;
    return static_cast<std::uint8_t>(high ? (operand.reg - kHighByteRegisters) * 8 + 1
                                          : operand.reg * 8);
  };
  uop.dst = place(insn.operand[0]);
  uop.src = place(insn.operand[1]);
  uop.imm = insn.imm;
  const bool has_memory = is_memory(insn.operand[0]) || is_memory(insn.operand[1]);
  if (!has_memory) return true;
  std::int64_t disp = insn.displacement;
  if (insn.base == kRipRegister) disp += offset + insn.length;
  uop.disp = static_cast<std::int32_t>(disp);
  uop.base = static_cast<std::uint8_t>(insn.base * 8);
  uop.index = static_cast<std::uint8_t>(insn.index * 8);
  uop.scale = insn.scale;
  uop.segment =
      static_cast<std::uint8_t>(static_cast<std::size_t>(insn.segment) * sizeof(SegmentRegister));
  return insn.address_size == 8 && uop.disp == disp;
}

}  // namespace fast

bool translate(std::span<const std::uint8_t> bytes, std::uint16_t offset, Handler crossing,
               TranslatedBlock& out) {
  const BlockEnd end = decode_block(bytes, offset, out);
  if (out.count == 0) return false;
  choose_handlers(out);
  join_branches(out);
  Uop& exit = out.uops[out.count] = {};
  exit.disp = static_cast<std::int32_t>(end.at);
  exit.handler = end.crosses ? crossing : exit_handler(exit.disp);
  exit.target = nullptr;
  exit.place = exit.executed = static_cast<std::uint8_t>(out.count);
  const Op last = out.insns[out.count - 1].op;
  out.needs_exit = last != Op::kJmpNear && last != Op::kRetNear;  // of a call: CallLink
  make_chains(std::span(out.uops).first(out.count + 1));
  return true;
}

}  // namespace sm::soft
