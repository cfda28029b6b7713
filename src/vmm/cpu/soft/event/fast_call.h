// SYSCALL, SYSRET, SYSENTER, SYSEXIT: ring changes without descriptor tables.
// Thread: the vCPU's own. Spec: SDM vol. 2, the instructions; vol. 3, 5.8.7 and 5.8.8. As Intel's:
// SYSCALL and SYSRET exist in 64-bit mode only.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

// All say kJump or kAborted (#UD, #GP(0)). `operand_size` 8 returns to 64-bit code.
Next system_call(Cpu& cpu, std::uint64_t return_rip);
Next system_return(Cpu& cpu, std::uint32_t operand_size);
Next system_enter(Cpu& cpu);
Next system_exit(Cpu& cpu, std::uint32_t operand_size);

}  // namespace sm::soft
