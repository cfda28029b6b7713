// Examples and notes of the commands, for help, manuals and the reference.
#pragma once

#include "cli/parser.h"

namespace sm {

// Adds them to the commands that exist below `app`.
void add_examples(Command& app);

}  // namespace sm
