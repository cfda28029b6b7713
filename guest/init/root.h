// The image's root: one read-only squashfs per layer, a size-limited tmpfs above them, joined by
// overlayfs, and the switch into it. Runs while the initramfs is still the root.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "common/boot_config.h"

namespace sm::guest {

// Mounts the root of the image at kNewRoot. `disks` are device nodes, base layer first.
Status compose_root(const BootConfig& config, const std::vector<std::string>& disks);
// The folder that the layers are mounted in, out of everybody's reach later. A disk that takes the
// place of the tmpfs (agent/root_disk.h) is joined with them there.
Result<UniqueFd> open_layers();
// Moves /proc, /sys and /dev over, frees the initramfs and makes the image's root "/".
Status switch_root();

}  // namespace sm::guest
