// What the VMs on record and the saved VMs with a tag need of the images. Calls block; any thread.
#pragma once

#include <string>

#include "base/result.h"
#include "runtime/image_removal.h"
#include "runtime/keeper/vm_registry.h"

namespace sm {

// A VM needs its image as long as it is on record, since `start` asks for it; one of an image
// outside of the store needs that. A tagged saved VM needs its converted layers as they are.
Result<ImageUse> image_use(const VmRegistry& registry, const std::string& cache_dir);

}  // namespace sm
