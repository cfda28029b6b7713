// The test's implementation of access.h: the sandbox of the fuzz test, seen from CPL 3 in 64-bit
// mode. What neither the sandbox holds nor is known to be unmapped is noted.
#pragma once

#include "vmm/cpu/soft/cpu.h"

namespace sm::cpu_fuzz {

void prepare_memory();
void forget_unknown_access();
bool unknown_access();
// With TLB entries for every page of the sandbox, or none.
void use_tlb(soft::Cpu& cpu, bool filled);

}  // namespace sm::cpu_fuzz
