// state.bin: MachineState to and from bytes. A header with the directory of sections, readable
// without the bodies; each section with id, version, length and CRC-32C; little-endian throughout.
// See docs/reference/snapshot-format.md. Pure functions, any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "vmm/snapshot/machine_state.h"

namespace sm {

// Limit: far above what 32 vCPUs with AVX-512 and 64 devices need.
inline constexpr std::size_t kMaxStateBytes = 16u << 20;
inline constexpr std::uint32_t kMaxStateVcpus = 64;
inline constexpr std::uint32_t kMaxStateDevices = 64;

// Of any state; one beyond the limits, or without vCPUs, is refused when it is read.
std::vector<std::byte> encode_state(const MachineState& state);
// All lengths and counts are checked before anything is allocated for them. kCorrupt, kLimit;
// kUnsupported for another version of the format or of a section.
Result<MachineState> decode_state(std::span<const std::byte> bytes);

}  // namespace sm
