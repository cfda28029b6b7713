#include <fmt/format.h>

#include "cli/commands.h"

namespace sm {

void add_version(CLI::App& app, Action& chosen) {
  CLI::App* command = app.add_subcommand("version", "Print the version");
  command->callback([&chosen] {
    chosen = [] {
      fmt::print("supermachine {}\n", SM_VERSION);
      return 0;
    };
  });
}

}  // namespace sm
