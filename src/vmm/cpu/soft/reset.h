// The processor's state after power-up, INIT and SIPI. The local APIC has resets of its own.
// Thread: the vCPU's own. Spec: SDM vol. 3, table 9-1 (table 10-1 in newer editions) and 8.4.3.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

void reset_cpu(Cpu& cpu);
// Like a reset, but caches, FPU, MSRs and TSC stay as they are.
void init_cpu(Cpu& cpu);
// Real mode at vector * 4 KiB, after an INIT.
void start_cpu_at(Cpu& cpu, std::uint8_t vector);

}  // namespace sm::soft
