// The disks that the image's layers are on, also where the machine is made before its image.
// See docs/design/0017-kernel-boot-cache.md.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "common/boot_config.h"
#include "common/doorbell_port.h"

namespace sm::guest {

// The device nodes of the layers, base first. A configuration with late disks: says that all else
// is done (doorbell), and goes on, maybe in a copy of this machine and much later, with those that
// have got a file.
Result<std::vector<std::string>> image_disks(const BootConfig& config, const DoorbellPort& bell);

}  // namespace sm::guest
