// What the command line prints about itself: errors on standard error, one sentence of cause and
// one of remedy.
#pragma once

#include "base/error.h"

namespace sm {

// Exit status of every failure of supermachine itself, as Docker has it.
inline constexpr int kOwnFailure = 125;

// From now on errors are one JSON object each, on a line: "code" (see code_name()), "cause",
// "remedy". Call it before there are threads.
void set_json_errors(bool on);

void print_error(const Error& error);
void print_warning(const std::string& text);

}  // namespace sm
