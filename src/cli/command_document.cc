// The hidden `__document`: writes the manual pages and the reference.
#include "base/file.h"
#include "cli/commands.h"
#include "cli/document.h"
#include "cli/image_command.h"

namespace sm {

namespace {

Status write_documents(const Command& app, const std::string& kind, const std::string& path) {
  if (kind == "markdown") return write_file_atomic(path, markdown_reference(app));
  if (kind != "man") {
    return fail(Code::kInvalidArgument, "there is no kind of document " + kind,
                "name man or markdown");
  }
  for (const Command* command : all_commands(app)) {
    SM_TRY_STATUS(write_file_atomic(path + "/" + man_name(*command) + ".1", man_page(*command)));
  }
  return {};
}

}  // namespace

void add_document(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      "__document",
      "Write manual pages or the reference: __document man DIR | __document markdown FILE");
  command->hide();
  set_image_action(*command, chosen, {2, 2, "the folder or file"}, {},
                   [&app](const auto& words) { return write_documents(app, words[0], words[1]); });
}

}  // namespace sm
