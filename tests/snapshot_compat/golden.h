// The machine that the snapshots in tests/snapshot_compat/ hold: every field of format 1 set, by
// name. Fields that later versions add stay at their defaults here, which is what reading an old
// snapshot has to give.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "vmm/snapshot/machine_state.h"
#include "vmm/snapshot/manifest.h"

namespace sm::golden {

inline constexpr std::uint64_t kMemoryBytes = 128 << 10;

MachineState state();
// Without what a writer fills in, but with its memory_digest.
SnapshotManifest manifest();
// The pages that are not zero, by number.
std::vector<std::pair<std::uint64_t, std::vector<std::byte>>> pages();

}  // namespace sm::golden
