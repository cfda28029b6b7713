// Manual pages and the reference, made from the option table.
#pragma once

#include <string>
#include <vector>

#include "cli/parser.h"

namespace sm {

// A manual page in troff's man macros.
std::string man_page(const Command& command);
// "supermachine-image-ls"
std::string man_name(const Command& command);
// docs/reference/cli.md
std::string markdown_reference(const Command& root);
// The command and all below it that are not hidden.
std::vector<const Command*> all_commands(const Command& root);

}  // namespace sm
