// run_snapshot: `supermachine restore`: one attached VM of a user's snapshot. Blocks the process's
// main thread.
#pragma once

#include <string>
#include <vector>

#include "runtime/run_image.h"
#include "runtime/run_options.h"

namespace sm {

// `options.image` is a tag or a folder. Without a command: the image's, unless a workload runs in
// the machine already; then its end is awaited. `secrets` ("NAME=value") are told to the guest
// alone, over its agent's socket, before anything runs in it that did not before.
Result<RunOutcome> run_snapshot(const RunOptions& options, const std::vector<std::string>& file_env,
                                const std::vector<std::string>& secrets, const HostEnv& host);

}  // namespace sm
