// remote_session: this process's standard streams, terminal and signals tied to a program in a VM
// that somebody else keeps: what `exec` and `attach` are. Blocks; main thread only.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/agent.h"
#include "runtime/run_session.h"
#include "runtime/session_signals.h"

namespace sm {

struct RemoteOptions {
  bool input = false;   // hand on the standard input
  bool signals = true;  // hand on signals; else those that ask for the end let go of the program
  bool detach_keys = false;  // Ctrl-P Ctrl-Q at a terminal lets go
};

// `socket` leads to an agent, or to a keeper in its place.
SessionOutcome run_remote(UniqueFd socket, const agent::ExecRequest& request,
                          const RemoteOptions& options, const SessionSignals& signals);

}  // namespace sm
