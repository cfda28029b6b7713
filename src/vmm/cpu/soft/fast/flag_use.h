// Which instructions need the status flags before them. Pure; any thread.
#pragma once

#include "vmm/cpu/soft/insn.h"

namespace sm::soft {

// Whether the status flags before `insn` are looked at, given whether those behind it are. An
// instruction that can fault shows them to the handler of the fault.
bool flags_needed_before(const Insn& insn, bool needed_behind);

}  // namespace sm::soft
