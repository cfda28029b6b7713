// The list of system calls of a worker that runs a guest, and its installation in all threads.
// Everything that is not on the list raises SIGSYS; calls of other architectures (int 0x80, x32)
// end the process at once.
#pragma once

#include "base/result.h"
#include "vmm/sandbox/sandbox.h"

namespace sm::sandbox {

// Needs no_new_privs or CAP_SYS_ADMIN. A thread that cannot take the filter makes the whole call
// fail.
Status install_filter(const SealOptions& options);

}  // namespace sm::sandbox
