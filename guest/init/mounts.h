// The pseudo file systems. Each is mounted exactly once: /proc, /sys and /dev in the initramfs and
// later moved with the rest, which is mounted below them.
#pragma once

#include "base/result.h"
#include "common/boot_config.h"

namespace sm::guest {

// /proc, /sys, /dev: what the search for disks needs.
Status mount_kernel_views();
// /dev/pts, /dev/shm, /dev/mqueue, /sys/fs/cgroup and the usual links in /dev.
Status mount_device_views(const BootConfig& config);

}  // namespace sm::guest
