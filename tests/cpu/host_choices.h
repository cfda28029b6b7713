// What AMD's processors do otherwise than Intel's, as which the software CPU behaves: no case of
// that can be compared on a host of theirs. Nothing is left out on other hosts.
// Spec: AMD64 Architecture Programmer's Manual vol. 3, 1.2.7 and the pages of the instructions.
#pragma once

#include <cstdint>

#include "tests/cpu/encoding.h"
#include "tests/cpu/machine_state.h"
#include "vmm/cpu/soft/insn.h"

namespace sm::cpu_fuzz {

// By the bytes alone: the host may take them for another instruction, of another length. Asked
// before anything is run.
bool host_reads_otherwise(const soft::Insn& insn, const Text& text);

// By what came of it: the host looks at the memory operand before exceptions that are not masked,
// has changed flags or not yet cut a counter when a string instruction faults, knows one more
// bit of MXCSR, and wants offsets canonical before it adds the base of FS or GS.
bool host_ends_otherwise(const soft::Insn& insn, const MachineState& before, const Outcome& native);

// In memory only: FXSAVE says what MXCSR may hold; a call to nowhere has not pushed yet.
bool host_stores_otherwise(const soft::Insn& insn, const Outcome& native);

}  // namespace sm::cpu_fuzz
