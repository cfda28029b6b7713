// What happens at a forbidden system call: one line on standard error, then the end of the process
// by SIGSYS.
#pragma once

#include "base/result.h"

namespace sm::sandbox {

// Process-wide; needs sigaction, so before the filter. If the handler should be gone or blocked
// when it is needed, the kernel ends the process without the line.
Status install_violation_handler();

}  // namespace sm::sandbox
