// The commands of the command line. Each adds itself to the parser; its action returns the
// process's exit status. One file per command: command_<name>.cc.
#pragma once

#include <functional>
#include <string>

#include "cli/parser.h"

namespace sm {

using Action = std::function<int()>;

// All commands below.
void add_commands(Command& app, Action& chosen);

// Each stores its action in `chosen` when the user asks for it.
void add_create(Command& app, Action& chosen);  // command_run.cc
void add_run(Command& app, Action& chosen);
void add_doctor(Command& app, Action& chosen);
void add_bake(Command& app, Action& chosen);
void add_restore(Command& app, Action& chosen);
void add_pool(Command& app, Action& chosen);
void add_snapshot(Command& app, Action& chosen);
void add_version(Command& app, Action& chosen);

void add_completion(Command& app, Action& chosen);
void add_document(Command& app, Action& chosen);

// Images: also below `image`, some under another verb there.
void add_image(Command& app, Action& chosen);
void add_images(Command& app, Action& chosen, const std::string& verb);
void add_pull(Command& app, Action& chosen);
void add_push(Command& app, Action& chosen);
void add_rmi(Command& app, Action& chosen, const std::string& verb);
void add_tag(Command& app, Action& chosen);
void add_inspect(Command& app, Action& chosen);
void add_history(Command& app, Action& chosen);
void add_save(Command& app, Action& chosen);
void add_load(Command& app, Action& chosen);
void add_system(Command& app, Action& chosen);

}  // namespace sm
