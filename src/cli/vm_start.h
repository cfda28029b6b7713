// Starting a VM that has a record: attached to this process, or kept by one of its own.
#pragma once

#include "base/result.h"
#include "runtime/keeper/vm_registry.h"
#include "runtime/run_image.h"

namespace sm {

// Attached: until its end. Else until its command runs; status 0 then.
RunOutcome start_vm(const VmRegistry& registry, HeldRecord held, const PreparedRun& run,
                    bool attached, const SessionSignals& signals);

// What `run` was told when this VM was made, with its image as it was then (command_run.cc).
Result<PreparedRun> prepare_again(const VmRecord& record, const SessionSignals& signals);

// Starts one that has ended, in the background. kInvalidArgument when it runs.
Result<RunOutcome> start_again(const VmRegistry& registry, const VmRecord& record, bool attached,
                               const SessionSignals& signals);

}  // namespace sm
