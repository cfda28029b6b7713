// Delivery of exceptions and interrupts: through the IDT of long and protected mode or the vector
// table of real mode, with double and triple faults.
// Thread: the vCPU's own. Spec: SDM vol. 3, chapter 6; vol. 2, INT n.
//
// Each says kJump: the handler is entered, the interrupt shadow and HLT are over. Or kAborted, and
// only with Cpu::shutdown set: a triple fault. Then nothing of the event has happened.
// Limits: no task gates (#GP, as if the gate had a wrong type); descriptor tables and stacks that
// are device memory cannot be used for delivery (shutdown).
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

// Cpu::fault of the instruction at Cpu::rip.
Next deliver_fault(Cpu& cpu);
// An external interrupt between two instructions; the caller has looked at IF and the shadow.
Next deliver_interrupt(Cpu& cpu, std::uint8_t vector);
// The same for the non-maskable one; masks further ones until IRET.
Next deliver_nmi(Cpu& cpu);
// #DB between two instructions: `bits` go into DR6 (kDebugSingleStep, breakpoints). Cpu::rip is the
// next instruction.
Next deliver_debug(Cpu& cpu, std::uint32_t bits);
// INT1: #DB that returns to `return_rip` and leaves DR6 alone.
Next deliver_int1(Cpu& cpu, std::uint64_t return_rip);

// INT n, INT3, INTO; returns to `return_rip`. What is raised on the way is an ordinary fault of the
// instruction: kAborted with Cpu::fault, or Cpu::io waits.
Next software_interrupt(Cpu& cpu, std::uint8_t vector, std::uint64_t return_rip);

}  // namespace sm::soft
