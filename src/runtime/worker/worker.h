// The worker: one VM as a process. Composes the VMM from the command line, reports on the control
// socket, ends when the guest, the parent or a signal says so.
#pragma once

#include "base/log.h"
#include "runtime/worker/options.h"

namespace sm {

// Runs one VM to its end. The process's exit status: 0 or 2 (see docs/reference/worker.md).
int run_worker(const WorkerOptions& options, Log& log);

// Without a kernel: tests whether this host can run VMs and says so. 0 or 1.
int prove_engine();

}  // namespace sm
