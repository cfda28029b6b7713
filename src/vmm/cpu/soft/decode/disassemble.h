// The text of an instruction, for traces and failed tests: "add rax, [rbx+rcx*4+0x10]". Any thread.
// Immediates and displacements are signed; branches give the distance from the next instruction.
#pragma once

#include <string>
#include <string_view>

#include "vmm/cpu/soft/insn.h"

namespace sm::soft {

// The enumerator without its k: "Add".
std::string_view name_of(Op op);

std::string disassemble(const Insn& insn);

}  // namespace sm::soft
