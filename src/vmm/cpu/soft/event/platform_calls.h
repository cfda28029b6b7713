// What system instructions ask of the platform: CPUID leaves, time, the local APIC, paravirtual
// registers. Declared here, implemented by the platform's part (apic/, time/, the CPUID and MSR
// tables).
// Thread: the vCPU's own. None of these touches Cpu::fault.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

// Model-specific registers that are not plain values of Cpu: APIC base, x2APIC (0x800-0x8FF), TSC
// and TSC_DEADLINE, kvm-clock and the other paravirtual ones, and everything unknown. The plain
// ones are in exec/msr.cc and never arrive here. CPL and index have not been filtered otherwise.
// False: the register does not exist or refuses the value; the instruction raises #GP(0).
bool platform_read_msr(Cpu& cpu, std::uint32_t index, std::uint64_t& value);
bool platform_write_msr(Cpu& cpu, std::uint32_t index, std::uint64_t value);

// The guest's time-stamp counter, offset applied; never runs backwards on one vCPU.
std::uint64_t platform_tsc(Cpu& cpu);

// Fills eax, ebx, ecx, edx. Bits that follow the CPU's state (OSXSAVE, APIC enabled) are the
// platform's business too: OSXSAVE stays 0, this CPU has no XSAVE.
void platform_cpuid(Cpu& cpu, std::uint32_t leaf, std::uint32_t subleaf, std::uint32_t out[4]);
// CR8: the task priority class, 0..15.
std::uint64_t platform_cr8(Cpu& cpu);
void platform_set_cr8(Cpu& cpu, std::uint64_t priority);

// VMCALL or VMMCALL at CPL 0: `nr` in rax, arguments in rbx, rcx, rdx, rsi (their low 32 bits
// outside 64-bit mode). The result goes to rax. Spec: KVM's hypercall ABI; unknown numbers give
// -KVM_ENOSYS (-1000).
std::uint64_t platform_hypercall(Cpu& cpu, std::uint64_t nr, std::uint64_t a0, std::uint64_t a1,
                                 std::uint64_t a2, std::uint64_t a3);

}  // namespace sm::soft
