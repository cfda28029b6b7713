// The commands of the command line. Each adds itself to the parser; its action returns the
// process's exit status. One file per command: command_<name>.cc.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

namespace sm {

using Action = std::function<int()>;

// Each stores its action in `chosen` when the user asks for it.
void add_run(CLI::App& app, Action& chosen);
void add_doctor(CLI::App& app, Action& chosen);
void add_bake(CLI::App& app, Action& chosen);
void add_restore(CLI::App& app, Action& chosen);
void add_pool(CLI::App& app, Action& chosen);
void add_snapshot(CLI::App& app, Action& chosen);
void add_version(CLI::App& app, Action& chosen);

// Images: also below `image`, some under another verb there.
void add_image(CLI::App& app, Action& chosen);
void add_images(CLI::App& app, Action& chosen, const std::string& verb);
void add_pull(CLI::App& app, Action& chosen);
void add_push(CLI::App& app, Action& chosen);
void add_rmi(CLI::App& app, Action& chosen, const std::string& verb);
void add_tag(CLI::App& app, Action& chosen);
void add_inspect(CLI::App& app, Action& chosen);
void add_history(CLI::App& app, Action& chosen);
void add_save(CLI::App& app, Action& chosen);
void add_load(CLI::App& app, Action& chosen);
void add_system(CLI::App& app, Action& chosen);

}  // namespace sm
