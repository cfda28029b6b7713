// Options of Docker's `run` that do not exist here: each is refused by name, with the reason and
// with what to do instead, never ignored.
#pragma once

#include <vector>

#include "cli/parser.h"

namespace sm {

const std::vector<RefusedOption>& refused_run_options();

}  // namespace sm
