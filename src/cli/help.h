// What `--help` prints.
#pragma once

#include <string>
#include <vector>

#include "cli/parser.h"

namespace sm {

// "-m, --memory SIZE"
std::string option_title(const Option& option);
// Its text with choices' names and the default.
std::string option_text(const Option& option);
// Those of the command; of a group, the first one of each of its commands.
std::vector<Example> shown_examples(const Command& command);
// Commands that are not hidden.
std::vector<const Command*> shown_commands(const Command& command);

std::string help_text(const Command& command);

}  // namespace sm
