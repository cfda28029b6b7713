// Descriptors that this process did not open itself.
#pragma once

#include "base/result.h"

namespace sm::sandbox {

// Closes what a parent left open, standard input, output and error excepted. The project opens
// everything close-on-exec, so a descriptor above 2 that is not can only have been inherited.
Status close_inherited();

}  // namespace sm::sandbox
