// The commands of the command line. Each adds itself to the parser; its action returns the
// process's exit status. One file per command: command_<name>.cc.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace sm {

using Action = std::function<int()>;

// Each stores its action in `chosen` when the user asks for it.
void add_run(CLI::App& app, Action& chosen);
void add_doctor(CLI::App& app, Action& chosen);
void add_version(CLI::App& app, Action& chosen);

}  // namespace sm
