#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/image_command.h"

namespace sm {

void add_version(Command& app, Action& chosen) {
  Command* command = app.add_subcommand("version", "Print the version");
  auto format = std::make_shared<std::string>();
  command->add_option("--format", *format, "text, or json")->type_name("FORMAT");
  command->footer("Field of --format json: Version.");
  set_image_action(*command, chosen, {0, 0, ""}, {"-f"}, [format](const auto&) -> Status {
    const bool json = SM_TRY(wants_json(*format));
    std::puts(json ? R"({"Version":")" SM_VERSION R"("})" : "supermachine " SM_VERSION);
    return {};
  });
}

}  // namespace sm
