// The signal that takes a thread out of KVM_RUN. It is the one thing here that belongs to the whole
// process: SIGUSR1 has an empty handler as soon as the first KVM machine exists, and nobody else in
// the process may use it. Its only effect is that a system call of the vCPU thread returns early.
#pragma once

#include <sys/types.h>

#include "base/result.h"

namespace sm::kvm {

// Installs the empty handler. Idempotent, any thread. Refuses when somebody else's handler is
// there.
Status install_kick_signal();

// Makes sure that the calling thread does not block the signal.
void unblock_kick_signal();

// Sends the signal to a thread of this process. A thread that has ended is not an error.
void send_kick_signal(pid_t thread);

}  // namespace sm::kvm
