// The way that works for every x87 instruction but the control ones, and is exact in every case.
// The quick handlers turn to it for stack faults, unmasked exceptions and whatever they do not do.
#pragma once

#include "vmm/cpu/soft/exec/x87_state.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

Next x87_general(Cpu& cpu, const Insn& insn);

// Records where a non-control instruction was. As on recent Intel processors FIP is always written,
// FDP and FOP at unmasked exceptions only, and the selectors never: what bits 6 and 13 of EBX in
// CPUID leaf 7 tell the guest.
// Spec: SDM vol. 1, 8.1.8 and 8.1.9; CPUID leaf 7, EBX bits 6 and 13.
inline void x87_record_instruction(Cpu& cpu) { cpu.fx.instruction_pointer = cpu.rip; }

}  // namespace sm::soft
