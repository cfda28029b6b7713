// The task register's part in privilege changes: stacks of inner rings out of the TSS. There is no
// task switching: task gates and TSS selectors as targets raise #GP.
// Thread: the vCPU's own. Spec: SDM vol. 3, 7.2.1, 7.7, 6.14.4 and 6.14.5.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/event/stack.h"

namespace sm::soft {

// The stack that code of ring `cpl` gets when it is entered from an outer ring. In long mode SS
// becomes null. False: #TS, #SS, #PF or a device; error codes with EXT = `ext`.
bool read_inner_stack(Cpu& cpu, std::uint8_t cpl, std::uint32_t ext, StackTarget& out);
// The stack of IST entry `index` (1..7) of the 64-bit TSS; `out.ss` is left alone.
bool read_interrupt_stack(Cpu& cpu, std::uint8_t index, std::uint32_t ext, StackTarget& out);

}  // namespace sm::soft
