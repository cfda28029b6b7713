// The zero page: what Linux learns about the machine at its entry point.
// Spec: Linux Documentation/x86/zero-page.rst.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "vmm/loader/kernel_image.h"

namespace sm {

struct InitrdPlacement {
  GuestPhysAddr start;
  std::uint64_t size;
};

struct CommandLinePlacement {
  GuestPhysAddr start;
  std::uint32_t length;  // without the final NUL
};

// The memory map: RAM below 640 KiB up to the MP table, the MP table as reserved, RAM from 1 MiB to
// the MMIO hole, RAM above 4 GiB.
std::vector<boot_e820_entry> e820_map(const GuestMemory& memory);

// Writes the zero page to addr_map::kBootParams. No ACPI, no screen, no firmware tables.
Status write_boot_params(GuestMemory& memory, const LoadedKernel& kernel,
                         const CommandLinePlacement& command_line,
                         const std::optional<InitrdPlacement>& initrd);

}  // namespace sm
