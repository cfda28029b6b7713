// CR0, CR3, CR4, CR8 and EFER: what a write is allowed to do and what follows from it.
// Thread: the vCPU's own. Spec: SDM vol. 3, 2.5, 4.1 and 9.8.5; vol. 2, MOV (control registers).
//
// False: #GP(0) is raised and nothing has changed. CPL has been checked by the caller.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

bool write_cr0(Cpu& cpu, std::uint64_t value);
bool write_cr3(Cpu& cpu, std::uint64_t value);
bool write_cr4(Cpu& cpu, std::uint64_t value);
bool write_cr8(Cpu& cpu, std::uint64_t value);
bool write_efer(Cpu& cpu, std::uint64_t value);

}  // namespace sm::soft
