// IRET and far RET in all modes.
// Thread: the vCPU's own. Spec: SDM vol. 2, IRET and RET.
//
// Limit: no task returns and no virtual-8086 mode; where the manual would go there, #GP(0).
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

// Both say kJump or kAborted. `operand_size` is 2, 4 or 8.
Next interrupt_return(Cpu& cpu, std::uint32_t operand_size);
// `release`: bytes of parameters to take off the stack, off the outer one too.
Next far_return(Cpu& cpu, std::uint32_t operand_size, std::uint16_t release);

}  // namespace sm::soft
