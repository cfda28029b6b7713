// The options of `run` that act inside the guest.
#pragma once

#include <CLI/CLI.hpp>

#include "runtime/container/container_flags.h"

namespace sm {

// `flags` must live as long as the command.
void add_container_options(CLI::App& command, ContainerFlags& flags);

}  // namespace sm
