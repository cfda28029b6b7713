// Lasts: branches that a handler may end with, as types. leave() does the instruction, by the
// semantic function in a slow case, and goes on.
// Thread: the vCPU's own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vmm/cpu/soft/exec/operand.h"
#include "vmm/cpu/soft/fast/jump.h"
#include "vmm/cpu/soft/fast/operands.h"

namespace sm::soft::fast {

// The handler of one of them alone.
template <class Last>
const Uop* last(Cpu& cpu, const Uop* uop, Ahead /*ahead*/) {
  return Last::leave(cpu, uop);
}

// With `kEnds` the block's exit comes behind it and is executed with it.
template <std::uint8_t kCondition, bool kEnds = false>
struct Jcc {
  static constexpr std::size_t kUops = 1;
  [[gnu::always_inline]] static const Uop* leave(Cpu& cpu, const Uop* uop) {
    if (condition_holds(cpu.status, kCondition)) return branch(cpu, uop);
    return kEnds ? branch(cpu, uop + 1) : go_to(cpu, uop + 1);
  }
};

// Also the end of a block that goes on in another.
template <bool kFar>
struct Jmp {
  [[gnu::always_inline]] static const Uop* leave(Cpu& cpu, const Uop* uop) {
    return kFar ? branch_far(cpu, uop) : branch(cpu, uop);
  }
};

// Where CALL puts the return address; null in a slow case.
inline std::byte* locate_push(const Cpu& cpu) {
  return find_bytes(cpu.write_tlb, cpu.gpr[kRsp] - kStackWord, kStackWord);
}
inline void push_return(Cpu& cpu, const Uop* uop, std::byte* at) {
  const std::uint64_t address = cpu.gpr[17] + uop->next;
  store_to(at, address);
  cpu.gpr[kRsp] -= kStackWord;
  expect_return(cpu, uop, address);
}

template <bool kFar>
struct Call {
  [[gnu::always_inline]] static const Uop* leave(Cpu& cpu, const Uop* uop) {
    std::byte* to = locate_push(cpu);
    if (to == nullptr) [[unlikely]]
      return run_semantic(cpu, uop, {});
    push_return(cpu, uop, to);
    return kFar ? call_far(cpu, uop) : branch(cpu, uop);
  }
};

// What the last call knows of where it returns to; null when this is not its return or it does not
// know anything.
[[gnu::always_inline]] inline const CallLink* expected_return(Cpu& cpu, std::uint64_t target) {
  const ExpectedReturn& expected = cpu.returns[cpu.last_return];
  if (expected.address != target || expected.epoch != current_epoch(cpu)) return nullptr;
  cpu.last_return = (cpu.last_return - 1) % kExpectedReturns;
  return expected.link->continuation != nullptr ? expected.link : nullptr;
}

struct Ret {
  [[gnu::always_inline]] static const Uop* leave(Cpu& cpu, const Uop* uop) {
    const std::byte* from = find_bytes(cpu.read_tlb, cpu.gpr[kRsp], kStackWord);
    if (from == nullptr) [[unlikely]]
      return run_semantic(cpu, uop, {});
    const auto target = load_from<std::uint64_t>(from);
    const CallLink* link = expected_return(cpu, target);
    if (link == nullptr) [[unlikely]]
      return return_slow(cpu, uop, {});
    cpu.gpr[kRsp] += kStackWord + static_cast<std::uint16_t>(uop->imm);
    return branch_to(cpu, uop, target, link->continuation, link->continuation_handler);
  }
};

}  // namespace sm::soft::fast
