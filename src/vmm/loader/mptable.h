// The Intel MultiProcessor tables: how a guest without ACPI finds its CPUs and interrupt pins.
// Spec: MultiProcessor Specification 1.4.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "vmm/memory/guest_memory.h"

namespace sm {

// Writes the floating pointer and the configuration table to addr_map::kMpTable. CPU n has APIC id
// n; IOAPIC pin n is ISA interrupt n for all 24 pins, edge-triggered and active high.
// 1 <= cpus <= kMaxVcpus.
Status write_mp_table(GuestMemory& memory, std::uint32_t cpus);

}  // namespace sm
