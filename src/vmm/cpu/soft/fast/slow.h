// Where handlers go when their case is not the common one. All of these are ordinary functions; a
// handler reaches them by a sibling call, so that it has no frame itself.
// Thread: the vCPU's own.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/fast/uop.h"

namespace sm::soft::fast {

// Does the uop's instruction by its semantic function and goes on behind it. Also the handler of
// instructions that have no other.
[[gnu::noinline]] const Uop* run_semantic(Cpu& cpu, const Uop* uop, Ahead ahead);
// The same for an instruction behind which run_blocks() has to look before it goes on.
[[gnu::noinline]] const Uop* run_semantic_and_leave(Cpu& cpu, const Uop* uop, Ahead ahead);

// A direct branch is taken whose Uop::target is not known, perhaps to another page. `executed` is
// off the budget already; so with the next.
[[gnu::noinline]] const Uop* branch_unlinked(Cpu& cpu, const Uop* uop);
// A direct branch is taken and its block is not known, or run_blocks() has to come back.
[[gnu::noinline]] const Uop* branch_slow(Cpu& cpu, const Uop* uop);
// RET whose call is not the last one remembered, or does not know the block behind it.
[[gnu::noinline]] const Uop* return_slow(Cpu& cpu, const Uop* uop, Ahead ahead);
// Cpu::rip was set, perhaps by a jump into another mode.
[[gnu::noinline]] const Uop* continue_anywhere(Cpu& cpu);
// Leaves with `rip` as the next instruction's address.
[[gnu::noinline]] const Uop* leave_at(Cpu& cpu, std::uint64_t rip);

}  // namespace sm::soft::fast
