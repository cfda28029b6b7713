#include "tests/cpu/model.h"

#include <algorithm>
#include <span>

#include "tests/cpu/model_block.h"
#include "tests/cpu/model_memory.h"
#include "tests/cpu/sandbox.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::cpu_fuzz {

namespace {

// SAFETY: one thread uses it; kept because a Cpu is large.
soft::Cpu g_cpu;

soft::SegmentRegister flat_segment(std::uint16_t selector, std::uint16_t attributes) {
  return {.limit = 0xFFFFFFFF, .selector = selector, .attributes = attributes, .usable = true};
}

void load(const MachineState& state, std::uint32_t slot) {
  std::copy(state.gpr.begin(), state.gpr.end(), g_cpu.gpr.begin());
  g_cpu.gpr[16] = 0;
  g_cpu.set_rflags(state.rflags);
  g_cpu.fx = state.fx;
  g_cpu.rip = slot_address(slot);
  g_cpu.fault = {};
  g_cpu.attention.store(0, std::memory_order_relaxed);
  g_cpu.io.clear();
}

// Where a jump may go: anywhere but to the instruction itself, what follows it in the slot (other
// than just behind it), the exit pointer, the test program, and the page where the host's kernel
// stands in for old system calls.
bool may_go_to(std::uint64_t target, std::uint64_t start, std::uint32_t length) {
  if (target == start + length) return true;
  if (target >= start && target < start + kSlotSize) return false;
  if (target >= kExitPointer && target < kCode + kPage) return false;
  if (target >= kCode && target < kCode + kPage) {
    return *reinterpret_cast<const std::uint8_t*>(target) == 0xCC;
  }
  constexpr std::uint64_t kVsyscall = 0xFFFFFFFFFF600000;
  if ((target & ~(kPage - 1)) == kVsyscall) return false;
  return target < kUnknownFrom || target >= kUserEnd;
}

// False: aborted.
bool run_semantic(const soft::Insn& insn) {
  const soft::Semantic function = soft::semantic_of(insn.op);
  soft::Next next = soft::Next::kRepeat;
  while (next == soft::Next::kRepeat) {
    g_cpu.io.rewind();
    next = function(g_cpu, insn);
  }
  if (next == soft::Next::kNext) g_cpu.rip += insn.length;
  return next != soft::Next::kAborted;
}

// SAFETY: the code page is there, and Native has put the instruction into the slot.
std::span<const std::uint8_t> code_at(std::uint32_t slot, const soft::Insn& insn) {
  return {reinterpret_cast<const std::uint8_t*>(slot_address(slot)), insn.length};
}

}  // namespace

void Model::prepare(std::uint64_t fs_base, std::uint64_t gs_base) {
  g_cpu.mode = soft::CodeMode::k64;
  g_cpu.cpl = 3;
  g_cpu.cr0 = 0x80050033;
  g_cpu.cr4 = 0x000006F0;
  g_cpu.efer = 0xD01;
  constexpr std::uint16_t kData = 0xC0F3, kCode64 = 0xA0FB;
  for (auto& segment : g_cpu.segment) segment = flat_segment(0, kData);
  g_cpu.segment[static_cast<std::size_t>(soft::Segment::kCs)] = flat_segment(0x33, kCode64);
  g_cpu.segment[static_cast<std::size_t>(soft::Segment::kSs)] = flat_segment(0x2B, kData);
  g_cpu.segment[static_cast<std::size_t>(soft::Segment::kFs)].base = fs_base;
  g_cpu.segment[static_cast<std::size_t>(soft::Segment::kGs)].base = gs_base;
  prepare_memory();
}

bool Model::run(const soft::Insn& insn, std::uint32_t slot, const MachineState& before, Way way,
                Outcome& outcome) {
  load(before, slot);
  forget_unknown_access();
  use_tlb(g_cpu, (slot & 1) != 0);
  outcome.faulted =
      way == Way::kSemantic ? !run_semantic(insn) : !run_as_block(g_cpu, code_at(slot, insn));
  outcome.fault = g_cpu.fault;
  std::copy_n(g_cpu.gpr.begin(), 16, outcome.after.gpr.begin());
  outcome.after.rip = g_cpu.rip;
  outcome.after.rflags = g_cpu.rflags();
  outcome.after.fx = g_cpu.fx;
  if (!outcome.faulted && !may_go_to(g_cpu.rip, slot_address(slot), insn.length)) return false;
  // A set trap flag would end the jump to the exit.
  return !g_cpu.io.active() && !unknown_access() && (g_cpu.other_flags & soft::eflags::kTf) == 0;
}

}  // namespace sm::cpu_fuzz
