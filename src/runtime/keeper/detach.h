// A process that goes on without its terminal, and the pipe by which it says how its start went.
#pragma once

#include <functional>

#include "base/result.h"
#include "base/unique_fd.h"
#include "runtime/run_session.h"

namespace sm {

// The detached process's end. Thread: one.
class ReadyPipe {
 public:
  explicit ReadyPipe(UniqueFd fd) : fd_(std::move(fd)) {}
  // Once: nothing when all is well.
  void report(const std::optional<SessionOutcome>& failure);

 private:
  UniqueFd fd_;
};

// Forks. The child gets a session of its own, /dev/null as its standard streams and / as its
// folder, and runs `body`, after which it ends. The parent waits for its report: status 0, or the
// failure. Signals that ask for the end are handed on to the child meanwhile. No other thread may
// run.
Result<SessionOutcome> run_detached(const SessionSignals& signals,
                                    const std::function<void(ReadyPipe&)>& body);

}  // namespace sm
