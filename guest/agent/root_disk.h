// The disk that keeps what is written to the root of a machine that is started again later. The
// machine comes up with a tmpfs above the image's layers, so that it can be saved and copied; the
// resume puts the disk in its place, before any program runs. Design:
// docs/design/0015-root-disk.md. Called in a child: a damaged file system may keep it for ever.
#pragma once

#include <string>

#include "base/result.h"

namespace sm::guest {

// Mounts the disk with this serial and makes a root of it and the layers; `layers` is the folder in
// which they are mounted (init/root.h). It becomes "/" of the calling process.
Status switch_to_root_disk(int layers, const std::string& serial);
// Any other process, whose "/" is still below: goes there.
Status follow_root();

}  // namespace sm::guest
