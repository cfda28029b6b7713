// Which file is on which of a machine's disks: pure decisions from the command line and, for a
// machine that goes on, from what its snapshot says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/worker/options.h"
#include "vmm/snapshot/manifest.h"

namespace sm {

struct DiskSlot {
  std::string serial;
  bool read_only = true;
  std::string path;               // empty: nothing is on it
  std::uint64_t saved_bytes = 0;  // its capacity in the snapshot; 0: it was empty, or boots
  bool late = false;              // VmDisk::late
  bool operator==(const DiskSlot&) const = default;
};

// The layers, base first, then empty ones up to --layer-slots, then the root disk.
std::vector<DiskSlot> boot_slots(const WorkerOptions& options);

// The disks of the saved machine in their order, each with its file. kUnsupported when the command
// line has a file too few or too many, or one for a disk of the other access. `manifest` is
// hostile.
Result<std::vector<DiskSlot>> restore_slots(const SnapshotManifest& manifest,
                                            const WorkerOptions& options);

}  // namespace sm
