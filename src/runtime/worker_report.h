// What a worker left behind, in words for people.
#pragma once

#include <string>

#include "base/error.h"

namespace sm {

// The last lines of a log that a guest may have written: printable, for an error message. Empty
// when there are none.
std::string last_lines(const std::string& path);

// Why a worker process has ended, from its wait status and its logs. kGone.
Error explain_worker_end(int wait_status, const std::string& worker_log,
                         const std::string& console_log);

}  // namespace sm
