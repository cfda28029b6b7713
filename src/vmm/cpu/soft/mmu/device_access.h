// Accesses to guest-physical addresses where there is no RAM: the local APIC's page and the IOAPIC,
// which the platform answers at once, and everything else, which goes out through Cpu::io.
// Thread: the vCPU's own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

// `size` 1, 2, 4 or 8. False: Cpu::io waits for the answer.
bool device_access(Cpu& cpu, std::uint64_t physical, std::byte* data, std::uint32_t size,
                   bool is_write);

}  // namespace sm::soft
