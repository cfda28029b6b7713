// The end of keepers that do not answer. Who keeps a VM is whoever holds the lock of its record, so
// that is what is looked for, not a process id that somebody wrote down once. Calls block.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/clock.h"
#include "base/result.h"

namespace sm {

// Kills every process of this user that holds the lock of the file at `lock`, stopped ones as well,
// and its child `worker` (0: none is known). A process is pinned by a descriptor before it is
// looked at and killed through it: a number that was given anew meanwhile hits nobody. Returns when
// they have ended. kNotFound: no process was found to hold it; kTimeout, kPermission. The caller
// itself is left alone.
Status end_lock_holders(const std::string& lock, pid_t worker, Duration patience);

}  // namespace sm
