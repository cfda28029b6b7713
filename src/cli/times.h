// Points in time as users write them.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace sm {

// Nanoseconds since 1970 of "2026-01-31T12:00:00[.5][Z|+01:00]", "2026-01-31", seconds since 1970,
// or of a span before `now_ns` such as "90s" or "1h30m". kInvalidArgument.
Result<std::int64_t> parse_time(const std::string& text, std::int64_t now_ns);

}  // namespace sm
