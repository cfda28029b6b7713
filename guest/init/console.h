// Console lines for people: "supermachine-init: <text>". Quiet on success; never a protocol.
#pragma once

#include <string_view>

namespace sm::guest {

// Writes one line to standard error, control characters shown as '?'.
void console_line(std::string_view text);

}  // namespace sm::guest
