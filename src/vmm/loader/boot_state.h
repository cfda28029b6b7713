// The boot processor's state at a kernel's 64-bit entry point: paging on with an identity map, flat
// segments, interrupts off. Spec: Linux Documentation/x86/boot.rst, "64-bit boot protocol".
#pragma once

#include "base/result.h"
#include "vmm/cpu/cpu_state.h"
#include "vmm/memory/guest_memory.h"

namespace sm {

// Writes the page tables and the GDT into `memory` and changes `state`, which holds the reset state
// of vCPU 0, so that it starts at `entry` with rsi = addr_map::kBootParams. What belongs to the
// engine (APIC base, FPU, MSRs other than EFER) is left as it is.
// The identity map covers the first 4 GiB, so every place a kernel can be loaded to.
Status enter_64bit_boot(GuestMemory& memory, GuestPhysAddr entry, CpuState& state);

}  // namespace sm
