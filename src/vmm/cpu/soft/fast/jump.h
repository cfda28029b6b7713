// Branches: the end of every handler that leaves its block. Budget and requests are looked at here
// and nowhere else in hot code.
// Thread: the vCPU's own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/fast/slow.h"
#include "vmm/cpu/soft/fast/uop.h"
#include "vmm/cpu/soft/mmu/tlb.h"

namespace sm::soft::fast {

// The slot of the jump cache where `address` would be.
inline const JumpEntry& jump_entry(const Cpu& cpu, std::uint64_t address) {
  return cpu.jumps[jump_slot(address)];
}
// What CallLink and ExpectedReturn belong to.
inline std::uint64_t current_epoch(const Cpu& cpu) { return cpu.jumps[kJumpEntries].address; }
inline void enter_page_of(Cpu& cpu, std::uint64_t address) { cpu.gpr[17] = address & ~kPageMask; }

inline std::uint64_t branch_target(const Cpu& cpu, const Uop* uop) {
  return cpu.gpr[17] + static_cast<std::uint64_t>(std::int64_t{uop->disp});
}

inline bool in_page(std::int32_t disp) { return static_cast<std::uint32_t>(disp) < kPageSize; }

// Takes the instructions of this block off the budget. False: run_blocks() has to come back.
inline bool may_go_on(Cpu& cpu, const Uop* uop) {
  cpu.budget -= uop->executed;
  return cpu.budget > 0 && cpu.attention.load(std::memory_order_relaxed) == 0;
}

// The first handler of the block at Uop::target: a branch has it, too, so that it is known a load
// earlier than from that block, which may be cold. It has no operands: in their place is how far
// the handler is from run_semantic().
inline constexpr std::size_t kTargetHandler = offsetof(Uop, dst);
static_assert(kTargetHandler + sizeof(std::int32_t) == offsetof(Uop, scale));
[[gnu::always_inline]] inline Handler target_handler(const Uop* branch) {
  std::int32_t distance;
  std::memcpy(&distance, reinterpret_cast<const std::byte*>(branch) + kTargetHandler,
              sizeof(distance));
  return reinterpret_cast<Handler>(reinterpret_cast<std::intptr_t>(&run_semantic) + distance);
}
inline void set_target(const Uop* branch, const Uop* block) {
  Uop& uop = *const_cast<Uop*>(branch);
  uop.target = block;
  const auto distance = static_cast<std::int32_t>(reinterpret_cast<std::intptr_t>(block->handler) -
                                                  reinterpret_cast<std::intptr_t>(&run_semantic));
  std::memcpy(reinterpret_cast<std::byte*>(&uop) + kTargetHandler, &distance, sizeof(distance));
}

// The direct branch `uop` is taken.
[[gnu::always_inline]] inline const Uop* branch(Cpu& cpu, const Uop* uop) {
  if (!may_go_on(cpu, uop)) [[unlikely]] {
    return branch_slow(cpu, uop);
  }
  const Uop* target = uop->target;
  if (target == nullptr) [[unlikely]] {
    return branch_unlinked(cpu, uop);
  }
  return go_to(cpu, target, target_handler(uop));
}
// The same to another page, known to be one.
[[gnu::always_inline]] inline const Uop* branch_far(Cpu& cpu, const Uop* uop) {
  const std::uint64_t target = branch_target(cpu, uop);
  const JumpEntry& entry = jump_entry(cpu, target);
  if (!may_go_on(cpu, uop) || entry.address != target) [[unlikely]] {
    return branch_slow(cpu, uop);
  }
  enter_page_of(cpu, target);
  return go_to(cpu, entry.block);
}
// A call that branch_far() would do, and that keeps what it finds.
[[gnu::always_inline]] inline const Uop* call_far(Cpu& cpu, const Uop* uop) {
  const std::uint64_t target = branch_target(cpu, uop);
  CallLink& link = CallLink::behind(uop);
  if (link.page != cpu.gpr[17] || link.epoch != current_epoch(cpu)) [[unlikely]] {
    const JumpEntry& entry = jump_entry(cpu, target);
    if (entry.address != target) return branch_far(cpu, uop);
    link.page = cpu.gpr[17];
    link.epoch = current_epoch(cpu);
    set_target(uop, entry.block);
  }
  if (!may_go_on(cpu, uop)) [[unlikely]] {
    return branch_slow(cpu, uop);
  }
  enter_page_of(cpu, target);
  return go_to(cpu, uop->target, target_handler(uop));
}
// Remembers that `call`, which is executed, will return to `address`.
[[gnu::always_inline]] inline void expect_return(Cpu& cpu, const Uop* call, std::uint64_t address) {
  cpu.last_return = (cpu.last_return + 1) % kExpectedReturns;
  cpu.returns[cpu.last_return] = {address, current_epoch(cpu), &CallLink::behind(call)};
}
// An indirect branch to `block`, which is at `target` and begins with `handler`.
[[gnu::always_inline]] inline const Uop* branch_to(Cpu& cpu, const Uop* uop, std::uint64_t target,
                                                   const Uop* block, Handler handler) {
  if (!may_go_on(cpu, uop)) [[unlikely]] {
    return leave_at(cpu, target);
  }
  enter_page_of(cpu, target);
  return go_to(cpu, block, handler);
}
[[gnu::always_inline]] inline const Uop* branch_to(Cpu& cpu, const Uop* uop, std::uint64_t target,
                                                   const Uop* block) {
  return branch_to(cpu, uop, target, block, block->handler);
}

}  // namespace sm::soft::fast
