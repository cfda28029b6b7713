// The options of `run` that act inside the guest.
#pragma once

#include "cli/parser.h"
#include "runtime/container/container_flags.h"

namespace sm {

// `flags` must live as long as the command.
void add_container_options(Command& command, ContainerFlags& flags);

}  // namespace sm
