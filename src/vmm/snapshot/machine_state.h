// MachineState: everything of a stopped machine but its memory. Plain data, engine-independent, no
// pointers. It is what state.bin holds (docs/reference/snapshot-format.md).
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/cpu/cpu_state.h"
#include "vmm/cpu/platform_state.h"
#include "vmm/platform/uart_state.h"
#include "vmm/virtio/virtio_state.h"

namespace sm {

struct MachineState {
  std::vector<CpuState> vcpus;  // vCPU n is number n
  PlatformState platform;
  UartState uart;
  std::uint32_t generation = 0;      // of the doorbell: how many times this guest was restored
  std::vector<VirtioState> devices;  // slot n is number n
  bool operator==(const MachineState&) const = default;
};

}  // namespace sm
