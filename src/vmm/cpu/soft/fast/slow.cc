#include "vmm/cpu/soft/fast/slow.h"

#include "vmm/cpu/soft/fast/insn_cache.h"
#include "vmm/cpu/soft/fast/jump.h"
#include "vmm/cpu/soft/fast/last.h"
#include "vmm/cpu/soft/fast/operands.h"
#include "vmm/cpu/soft/fast/run.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft::fast {

namespace {

constexpr bool is_canonical(std::uint64_t address) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(address << 16) >> 16) == address;
}

// Cpu::rip says where the next instruction is.
const Uop* leave(Cpu& cpu) {
  cpu.blocks.link = {};
  return nullptr;
}

std::int64_t instructions_before(const Uop* uop) { return uop->place; }

// Before the instruction of `uop`, which Cpu::rip says already, and which is not the one that was
// translated. Nobody may ever say so (a page walk that sets an accessed bit does not), so that
// run_blocks() has to drop the block.
const Uop* leave_before(Cpu& cpu, const Uop* uop) {
  cpu.blocks.stale = true;
  cpu.budget -= instructions_before(uop);
  return leave(cpu);
}

bool is_direct_call(const Uop* uop) {
  return uop->handler == last<Call<false>> || uop->handler == last<Call<true>>;
}

[[gnu::noinline]] const Uop* finish_other(Cpu& cpu, const Uop* uop, const Insn& decoded,
                                          Next next) {
  // The rest of a string instruction.
  std::uint32_t pieces = 1;
  while (next == Next::kRepeat && pieces < kPiecesPerInstruction &&
         cpu.attention.load(std::memory_order_relaxed) == 0) {
    next = perform(cpu, decoded);
    ++pieces;
  }
  switch (next) {
    case Next::kNext:
      if (cpu.attention.load(std::memory_order_relaxed) == 0) return go_to(cpu, uop + 1);
      cpu.rip = cpu.gpr[17] + uop->next;
      break;
    case Next::kJump:
      cpu.budget -= instructions_before(uop) + 1;
      return continue_anywhere(cpu);
    case Next::kRepeat:
      cpu.budget -= instructions_before(uop) + (pieces == kPiecesPerInstruction ? 1 : 0);
      return leave(cpu);
    case Next::kAborted:
      cpu.budget -= instructions_before(uop);
      cpu.blocks.aborted = true;
      return leave(cpu);
  }
  cpu.budget -= instructions_before(uop) + 1;
  return leave(cpu);
}

// The call that expects a return to `target` and does not know the block there; null: none. The
// instruction behind a call may be on another page, even on the same one that the next address
// leads to.
CallLink* unlinked_call(const Cpu& cpu, std::uint64_t target) {
  // The one that expected_return() has just taken off, if it was this call's.
  const ExpectedReturn& expected = cpu.returns[(cpu.last_return + 1) % kExpectedReturns];
  const bool is_its_return = expected.address == target && expected.epoch == current_epoch(cpu);
  return is_its_return && (target & kPageMask) != 0 ? expected.link : nullptr;
}

}  // namespace

const Uop* run_semantic(Cpu& cpu, const Uop* uop, Ahead /*ahead*/) {
  cpu.rip = cpu.gpr[17] + uop->offset;
  const Insn* decoded = cpu.blocks.insns->find(uop);
  if (decoded == nullptr) return leave_before(cpu, uop);
  ++cpu.blocks.semantic_calls;
  const Next next = perform(cpu, *decoded);
  if (next == Next::kNext && cpu.attention.load(std::memory_order_relaxed) == 0) [[likely]] {
    return go_to(cpu, uop + 1);
  }
  return finish_other(cpu, uop, *decoded, next);
}

const Uop* run_semantic_and_leave(Cpu& cpu, const Uop* uop, Ahead /*ahead*/) {
  cpu.rip = cpu.gpr[17] + uop->offset;
  const Insn* decoded = cpu.blocks.insns->find(uop);
  if (decoded == nullptr) return leave_before(cpu, uop);
  ++cpu.blocks.semantic_calls;
  const Next next = perform(cpu, *decoded);
  if (next != Next::kNext) return finish_other(cpu, uop, *decoded, next);
  cpu.rip = cpu.gpr[17] + uop->next;
  cpu.budget -= instructions_before(uop) + 1;
  return leave(cpu);
}

const Uop* branch_unlinked(Cpu& cpu, const Uop* uop) {
  const std::uint64_t target = branch_target(cpu, uop);
  const JumpEntry& entry = jump_entry(cpu, target);
  if (in_page(uop->disp) || entry.address != target) return branch_slow(cpu, uop);
  enter_page_of(cpu, target);
  return go_to(cpu, entry.block);
}

const Uop* branch_slow(Cpu& cpu, const Uop* uop) {
  const std::uint64_t target = branch_target(cpu, uop);
  const bool is_insn = uop->executed > uop->place;  // and not the exit of a block
  if (is_insn && !is_canonical(target)) {
    cpu.budget += uop->executed;
    if (is_direct_call(uop)) cpu.gpr[kRsp] += kStackWord;  // pushes once more
    return run_semantic(cpu, uop, {});
  }
  cpu.rip = target;
  if (cpu.attention.load(std::memory_order_relaxed) != 0 || cpu.budget <= 0) return leave(cpu);
  if (in_page(uop->disp)) cpu.blocks.link = {.from = uop};
  return nullptr;
}

// The semantic function finds what is wrong with returns that are.
const Uop* return_slow(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const auto target = load_from<std::uint64_t>(
      find_bytes(cpu.read_tlb, cpu.gpr[kRsp], kStackWord));  // Ret did, too
  if (!is_canonical(target)) return run_semantic(cpu, uop, ahead);
  CallLink* link = unlinked_call(cpu, target);
  cpu.gpr[kRsp] += kStackWord + static_cast<std::uint16_t>(uop->imm);
  const JumpEntry& entry = jump_entry(cpu, target);
  if (entry.address == target) {
    if (link != nullptr && same_page(link->call(), entry.block)) link->return_to(entry.block);
    return branch_to(cpu, uop, target, entry.block);
  }
  if (!may_go_on(cpu, uop)) return leave_at(cpu, target);
  cpu.rip = target;
  if (link != nullptr) cpu.blocks.link = {.from = link->call(), .returns = true};
  return nullptr;
}

const Uop* continue_anywhere(Cpu& cpu) {
  if (cpu.attention.load(std::memory_order_relaxed) != 0 || cpu.mode != CodeMode::k64 ||
      cpu.budget <= 0) {
    return leave(cpu);
  }
  const JumpEntry& entry = jump_entry(cpu, cpu.rip);
  if (entry.address != cpu.rip) return leave(cpu);
  enter_page_of(cpu, cpu.rip);
  return go_to(cpu, entry.block);
}

const Uop* leave_at(Cpu& cpu, std::uint64_t rip) {
  cpu.rip = rip;
  return leave(cpu);
}

}  // namespace sm::soft::fast
