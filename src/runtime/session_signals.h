// SessionSignals: the signals that concern an attached VM, blocked and read from a descriptor while
// the object lives. Main thread; threads started meanwhile inherit the mask.
#pragma once

#include <signal.h>

#include "base/unique_fd.h"

namespace sm {

class SessionSignals {
 public:
  SessionSignals();
  ~SessionSignals();
  SessionSignals(const SessionSignals&) = delete;
  SessionSignals& operator=(const SessionSignals&) = delete;
  SessionSignals(SessionSignals&&) = delete;
  SessionSignals& operator=(SessionSignals&&) = delete;

  // Readable when a signal waits.
  int fd() const { return fd_.get(); }
  // The next waiting signal, 0 for none.
  int next() const;

 private:
  sigset_t before_{};
  UniqueFd fd_;
  sighandler_t broken_pipe_before_ = SIG_DFL;
};

}  // namespace sm
