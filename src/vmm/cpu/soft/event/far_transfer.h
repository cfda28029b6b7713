// Far JMP and CALL in all modes, through call gates too.
// Thread: the vCPU's own. Spec: SDM vol. 2, CALL and JMP; vol. 3, 5.8.
//
// Limit: no task switches; TSS and task gates as targets raise #GP for the selector.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

struct FarPointer {
  std::uint64_t offset = 0;
  std::uint16_t selector = 0;
};

// Both say kJump or kAborted. `operand_size` is 2, 4 or 8; the offset has been cut to it.
Next far_jump(Cpu& cpu, FarPointer to);
Next far_call(Cpu& cpu, FarPointer to, std::uint32_t operand_size, std::uint64_t return_rip);

}  // namespace sm::soft
