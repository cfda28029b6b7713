// run_snapshot: `supermachine restore`: one attached VM of a user's snapshot. Blocks the process's
// main thread.
#pragma once

#include <string>
#include <vector>

#include "runtime/run_image.h"
#include "runtime/run_options.h"

namespace sm {

// `options.image` is a tag or a folder. Without a command: the image's, unless a workload runs in
// the machine already; then its end is awaited.
Result<RunOutcome> run_snapshot(const RunOptions& options, const std::vector<std::string>& file_env,
                                const HostEnv& host);

}  // namespace sm
