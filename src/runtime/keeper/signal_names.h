// Signals as users and images write them. Pure.
#pragma once

#include <string>

#include "base/result.h"

namespace sm {

// "TERM", "SIGTERM", "15", "SIGRTMIN+3". kInvalidArgument.
Result<int> parse_signal(const std::string& text);

}  // namespace sm
