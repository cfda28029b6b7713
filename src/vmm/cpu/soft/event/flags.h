// Loading EFLAGS outside of arithmetic: flags on which others depend are told to those.
// Thread: the vCPU's own. Spec: SDM vol. 1, 3.4.3.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

// Bits an instruction can load at all; the others keep or read as fixed.
inline constexpr std::uint32_t kLoadableFlags =
    eflags::kStatus | eflags::kTf | eflags::kIf | eflags::kDf | eflags::kIopl | eflags::kNt |
    eflags::kRf | eflags::kAc | eflags::kVif | eflags::kVip | eflags::kId;

// What POPF and IRET may change at this CPL and IOPL with this operand size (without RF, which only
// IRET loads).
std::uint32_t writable_flags(const Cpu& cpu, std::uint32_t operand_size);

// Replaces RFLAGS. Tells the MMU about AC, and asks for attention when interrupts become possible
// or the next instruction has to run alone (TF, RF).
void load_rflags(Cpu& cpu, std::uint64_t flags);

// Asks the vCPU's own loop for something; cheap when it is asked for already.
void request_attention(Cpu& cpu, std::uint32_t bits);

// Nothing is delivered before the next instruction is over: 1 after STI, 2 after MOV SS, POP SS.
void begin_interrupt_shadow(Cpu& cpu, std::uint8_t kind);

}  // namespace sm::soft
