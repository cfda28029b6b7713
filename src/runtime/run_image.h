// run_image: an image's command in a fresh VM, attached to this process. What `supermachine run`
// does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/image_layers.h"
#include "runtime/run_options.h"
#include "runtime/run_session.h"

namespace sm {

using RunOutcome = SessionOutcome;

// Blocks until the VM has ended. Main thread only: it takes over SIGINT, SIGTERM, SIGHUP, SIGQUIT,
// SIGUSR1, SIGUSR2 and SIGWINCH for the time of the call. An error: no VM was started.
Result<RunOutcome> run_image(const RunOptions& options, const std::vector<std::string>& file_env,
                             const HostEnv& host, const ImageObservers& observers);

}  // namespace sm
