// Uop: one instruction in the form that the block engine executes: a handler and everything it
// needs, in half a cache line. Handlers go from one to the next by a sibling call, so that a block
// is a chain of jumps without a loop around it:
//
//   block:  BlockHead | uop of instruction 0 | uop 1 | ... | exit
//
// Behind a call is a CallLink instead of the exit, behind other jumps and returns nothing.
//
// There is one uop for each instruction, which a slow case decodes again (insn_cache.h); where some
// are executed as one (a comparison and its branch, chains, pairs) the first one's handler does
// them all, and the other uops are there for its operands and for slow cases.
//
// Thread: that of the vCPU whose code cache it is in.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/insn.h"

namespace sm::soft {

struct Uop;
struct Ahead;
// What is to be done next: null ends run_blocks(). With SM_SOFT_CHAINED only that ever comes back.
using Handler = const Uop* (*)(Cpu& cpu, const Uop* uop, Ahead ahead);
// The handler of the uop behind the one that is executed, which the one before it has loaded: the
// processor, which guessed a jump, learns from a register whether it was right and not from memory
// that may be cold. Only go_on() looks at it.
struct Ahead {
  Handler handler = nullptr;
};

struct Uop {
  Handler handler = nullptr;
  union {
    std::int64_t imm = 0;
    const Uop* target;  // of a branch; null: not known yet. On another page only calls know it
  };
  std::int32_t disp = 0;  // of the memory operand; of a branch: its target, from the page's start
  // Operands, which a branch that knows its target has not (jump.h), as byte offsets: into Cpu::gpr
  // (of ah .. bh the second byte) or FxState::xmm, `segment` into Cpu::segment.
  std::uint8_t dst = 0;
  std::uint8_t src = 0;
  std::uint8_t base = 0;
  std::uint8_t index = 0;
  std::uint8_t scale = 0;
  std::uint8_t segment = 0;
  std::uint16_t offset = 0;   // the instruction's, in the page
  std::uint8_t place = 0;     // in the block
  std::uint8_t executed = 0;  // of a branch: the instructions of the block up to here
  std::uint16_t next = 0;     // where the next instruction is, from the page's start
};
static_assert(sizeof(Uop) == 32);

// Behind the uop of a call, in the place of an exit that nothing would reach: what it knows of the
// block that it returns to, which is in the call's own page, wherever that is. A direct call to
// another page knows its target where the page that the call is in has the address `page`, in
// `epoch` (TlbBank).
struct CallLink {
  std::uint64_t page = 0;
  std::uint64_t epoch = 0;  // no bank's
  const Uop* continuation = nullptr;
  Handler continuation_handler = nullptr;  // as target_handler()

  static CallLink& behind(const Uop* call) {
    return *reinterpret_cast<CallLink*>(const_cast<Uop*>(call + 1));
  }
  const Uop* call() const { return reinterpret_cast<const Uop*>(this) - 1; }
  void return_to(const Uop* block) {
    continuation = block;
    continuation_handler = block->handler;
  }
};
static_assert(sizeof(CallLink) == sizeof(Uop));

class BlockPage;

// As long as a uop, so that two uops share a cache line.
struct alignas(32) BlockHead {
  BlockHead* next_in_bucket = nullptr;
  const BlockPage* page = nullptr;
  const std::byte* host = nullptr;  // the page's bytes
  std::uint16_t offset = 0;         // in the page
  Op last_op = Op::kInvalid;
  std::uint8_t insn_count = 0;

  const Uop* uops() const { return reinterpret_cast<const Uop*>(this + 1); }
  static const BlockHead* of(const Uop* block) {
    return reinterpret_cast<const BlockHead*>(block) - 1;
  }
};
static_assert(sizeof(BlockHead) == sizeof(Uop));

inline const BlockHead& head_of(const Uop* uop) { return *BlockHead::of(uop - uop->place); }
// What is linked within a page must be: the guest may have changed a translation without saying so.
inline bool same_page(const Uop* uop, const Uop* block) {
  return head_of(uop).page == BlockHead::of(block)->page;
}

// g++ makes a sibling call of `return f(x)` when it optimises and nothing in the caller's frame is
// alive; everywhere else a loop calls one handler after the other.
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(SM_SOFT_LOOP)
#define SM_SOFT_CHAINED 1
#else
#define SM_SOFT_CHAINED 0
#endif

// Begins a block, or goes on somewhere in one.
[[gnu::always_inline]] inline const Uop* go_to(Cpu& cpu, const Uop* uop) {
#if SM_SOFT_CHAINED
  return uop->handler(cpu, uop, Ahead{uop[1].handler});
#else
  (void)cpu;
  return uop;
#endif
}
// The same where the block's first handler is known already.
[[gnu::always_inline]] inline const Uop* go_to(Cpu& cpu, const Uop* block, Handler handler) {
#if SM_SOFT_CHAINED
  return handler(cpu, block, Ahead{block[1].handler});
#else
  (void)cpu;
  (void)handler;
  return block;
#endif
}
// In front of a block's last uop this reads a handler from behind the block (BlockMemory has a slot
// there), which the last has no use for.
[[gnu::always_inline]] inline const Uop* go_on(Cpu& cpu, const Uop* uop, Ahead ahead) {
#if SM_SOFT_CHAINED
  return ahead.handler(cpu, uop + 1, Ahead{uop[2].handler});
#else
  (void)cpu;
  (void)ahead;
  return uop + 1;
#endif
}

// From `uop` on, through one block after the other, until run_blocks() has to look.
inline void execute(Cpu& cpu, const Uop* uop) {
  while (uop != nullptr) uop = uop->handler(cpu, uop, Ahead{uop[1].handler});
}

}  // namespace sm::soft
