// Chains: a handler that executes a few instructions which often come behind one another. In code
// longer than the memory of the processor's predictor each dispatch is a jump guessed wrongly,
// which takes longer than what most handlers do; a chain is one dispatch.
// Any thread; pure.
#pragma once

#include <span>

#include "vmm/cpu/soft/fast/uop.h"

namespace sm::soft::fast {

// Gives uops that begin a chain its handler instead of their own, or that of a pair which hands on
// its result (forward.h), if that is both. Those behind keep theirs, for
// slow cases, and may begin chains themselves. `uops`: of one block with its exit, each with the
// handler of its instruction or of a comparison and the branch behind it.
void make_chains(std::span<Uop> uops);

}  // namespace sm::soft::fast
