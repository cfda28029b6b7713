// What a snapshot of a VM of the command line says of it, so that `restore` can go on from it. Any
// thread; reads files.
#pragma once

#include <string>

#include "base/result.h"
#include "runtime/run_image.h"
#include "runtime/snapshot_order.h"

namespace sm {

// A snapshot at `path`, absolute, of the VM that runs `run` above `root_disk` (empty: none).
// kInvalidArgument, kLimit: the image's settings cannot be saved.
Result<SnapshotTarget> target_for(const PreparedRun& run, const std::string& root_disk,
                                  const std::string& path, bool replace);

}  // namespace sm
