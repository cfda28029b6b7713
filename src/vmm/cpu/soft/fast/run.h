// run_blocks(): executes 64-bit code by blocks of uops, what Interpreter::run_code() does by single
// instructions elsewhere.
// Thread: the vCPU's own.
#pragma once

#include <cstdint>
#include <limits>

#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

enum class BlockStop : std::uint8_t {
  kRequest,  // between two instructions: Cpu::attention, another mode, or the budget is used up
  kAborted,  // the instruction at Cpu::rip said Next::kAborted or cannot be fetched
};

inline constexpr std::int64_t kNoBudget = std::numeric_limits<std::int64_t>::max();

// A string instruction counts as one more for each so many pieces of it, so that even an endless
// one uses the budget up.
inline constexpr std::uint32_t kPiecesPerInstruction = 256;

// Comes back when `budget` instructions are executed or, at the latest, at the end of the block
// where they are. Cpu::blocks.instructions counts exactly.
BlockStop run_blocks(Cpu& cpu, std::int64_t budget = kNoBudget);

}  // namespace sm::soft
