// An image's command in a fresh VM: what `supermachine run` does, in two steps, so that a keeper
// (keeper/keeper.h) can come between them and run the second one again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/image_layers.h"
#include "runtime/paths.h"
#include "runtime/run_options.h"
#include "runtime/run_session.h"

namespace sm {

using RunOutcome = SessionOutcome;

// Everything that a VM is started from.
struct PreparedRun {
  RunOptions options;  // with the engine that was found
  Assets assets;
  std::string cache;
  // Its layers stay where they are while this lives. It has a lease of the store: give that back as
  // soon as the VM is on record.
  LoadedImage image;
  agent::ExecRequest request;
  std::optional<HealthCheck> health;
};

// Finds or pulls the image and converts what is missing. Blocks; a signal ends it, and the image
// says by which it was interrupted.
Result<PreparedRun> prepare_run(const RunOptions& options, const std::vector<std::string>& file_env,
                                const HostEnv& host, const SessionSignals& signals,
                                const ImageObservers& observers);

// What belongs to one run of it.
struct RunPlace {
  std::string id;  // twelve digits, of which the VM's folder has its name
  bool attached = true;
  std::string root_disk;  // file that keeps what is written to the root; empty: memory does
  SessionGuardian* guardian = nullptr;
};

// The folder of the VM with this id while it runs, and the socket of its agent.
Result<std::string> vm_folder(const std::string& id);

// Blocks until the VM has ended. Main thread only: `signals` go to the command. An error: no VM was
// started.
Result<RunOutcome> run_prepared(const PreparedRun& run, const RunPlace& place,
                                const SessionSignals& signals);

}  // namespace sm
