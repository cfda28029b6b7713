// run_session: one attached VM from its start to its end: worker, exec connection, standard
// streams, terminal, signals. Blocks the calling thread, which must be the process's main thread.
#pragma once

#include <optional>
#include <string>

#include "base/clock.h"
#include "base/error.h"
#include "proto/agent.h"
#include "runtime/session_guardian.h"
#include "runtime/session_signals.h"
#include "runtime/snapshot_order.h"
#include "runtime/worker_process.h"

namespace sm {

struct SessionConfig {
  WorkerCommand worker;
  std::string exec_socket;
  std::string console_log;
  agent::ExecRequest request;
  // The workload runs in the restored VM already: nothing is started, its end is awaited. Of the
  // request only keep_stdin and tty count, for when its streams can be taken over.
  bool only_wait = false;
  // The VM is restored from a snapshot: what its guest is told before the request.
  std::optional<agent::ResumeRequest> resume;
  // The VM starts with --snapshot-on-pre-exec: what is to become of the snapshot.
  std::optional<SnapshotTarget> bake;
  // It boots with --snapshot-on-kernel: the same.
  std::optional<SnapshotTarget> kernel_bake;
  // Not attached: standard streams and terminal of this process stay alone, the output goes to the
  // guardian only.
  bool attached = true;
  SessionGuardian* guardian = nullptr;  // may be missing
  // Boot and start of the workload together; generous, since a guest may run on an emulated CPU.
  Duration start_deadline = std::chrono::seconds(180);
  // From the workload's end to the worker's; after that the worker is killed.
  Duration stop_deadline = std::chrono::seconds(10);
  // only_wait: from the first signal that asks the workload to end to its VM's being killed.
  Duration stop_timeout = std::chrono::seconds(10);
};

struct SessionOutcome {
  int status = 125;            // what the command's caller should exit with
  std::optional<Error> error;  // why there is no status of the workload
  bool end_asked = false;      // by a signal to this process, or by the session's guardian
  bool not_restored = false;   // the snapshot was of no use; the workload has not been started
};

SessionOutcome run_session(const SessionConfig& config, const SessionSignals& signals);

// 125, 126 or 127 for a request that the agent refused. Docker's meaning.
int refusal_status(agent::ErrorKind kind);

}  // namespace sm
