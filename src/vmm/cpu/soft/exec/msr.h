// Model-specific registers of the CPU itself. Everything that belongs to the local APIC, to time or
// to the hypervisor interface, and everything unknown, is the platform's.
// Thread: the vCPU's own. Spec: SDM vol. 4, chapter 2; AMD APM vol. 2, appendix A.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

namespace msr {
inline constexpr std::uint32_t kArchCapabilities = 0x10A, kSysenterCs = 0x174, kSysenterEsp = 0x175,
                               kSysenterEip = 0x176, kMiscEnable = 0x1A0, kPat = 0x277,
                               kEfer = 0xC0000080, kStar = 0xC0000081, kLstar = 0xC0000082,
                               kCstar = 0xC0000083, kSyscallMask = 0xC0000084, kFsBase = 0xC0000100,
                               kGsBase = 0xC0000101, kKernelGsBase = 0xC0000102,
                               kTscAux = 0xC0000103;
}

// RDMSR and WRMSR without the CPL check. False: #GP(0) is raised, nothing has changed.
bool read_msr(Cpu& cpu, std::uint32_t index, std::uint64_t& value);
bool write_msr(Cpu& cpu, std::uint32_t index, std::uint64_t value);

}  // namespace sm::soft
