// The files a container runtime puts into an image's root: /etc/hosts, /etc/resolv.conf,
// /etc/hostname, /etc/mtab, /tmp, /run. Works on any root folder, also one without /etc; never
// leaves it, and never writes through a link: a link in the place of one of the files is replaced.
#pragma once

#include "base/result.h"
#include "common/boot_config.h"

namespace sm::guest {

Status write_runtime_files(int root, const BootConfig& config);

}  // namespace sm::guest
