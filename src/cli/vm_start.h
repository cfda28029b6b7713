// Starting a VM that has a record: attached to this process, or kept by one of its own.
#pragma once

#include "base/result.h"
#include "runtime/keeper/keeper_claim.h"
#include "runtime/run_image.h"

namespace sm {

// Attached: until its end. Else until its command runs; status 0 then.
RunOutcome start_vm(const VmRegistry& registry, KeeperClaim claim, PreparedRun run, bool attached,
                    const SessionSignals& signals);

// What `run` was told when this VM was made, with its image as it was then (command_run.cc).
Result<PreparedRun> prepare_again(const VmRecord& record, const SessionSignals& signals);

// Starts one that has ended. It is given back when it cannot be prepared.
Result<RunOutcome> start_again(const VmRegistry& registry, KeeperClaim claim, bool attached,
                               const SessionSignals& signals);

}  // namespace sm
