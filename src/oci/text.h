// Untrusted bytes made fit for messages. Any thread.
#pragma once

#include <string>
#include <string_view>

namespace sm {

// The text with control characters, quotes, backslashes and bytes that are not UTF-8 written as
// escapes, and cut after about `limit` bytes: safe to show on a terminal.
std::string printable(std::string_view text, std::size_t limit = 200);

}  // namespace sm
