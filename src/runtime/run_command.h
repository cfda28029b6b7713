// Runs a program and collects what it prints, with a deadline.
#pragma once

#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace sm {

struct CommandResult {
  int status = 0;      // exit status, 128+n for a signal
  std::string output;  // standard output and error together, at most 1 MiB
};

// kTimeout kills the program. Blocks the calling thread.
Result<CommandResult> run_command(const std::vector<std::string>& words, Duration limit);

}  // namespace sm
