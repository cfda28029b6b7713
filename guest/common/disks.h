// Finds virtio-blk disks by their serial, which the worker chose: never by device letter or
// content.
#pragma once

#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace sm::guest {

// The device nodes ("/dev/vdc") of the given serials, in their order. Waits until the deadline for
// disks that appear late; then the error names the ones that are missing.
Result<std::vector<std::string>> find_disks(const std::vector<std::string>& serials,
                                            Deadline deadline);

// Waits until the deadline for disks that were empty to get their capacity; then the error names
// one that has none. `nodes` as find_disks gives them.
Status await_capacity(const std::vector<std::string>& nodes, Deadline deadline);

}  // namespace sm::guest
