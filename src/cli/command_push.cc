#include <fmt/format.h>

#include <memory>

#include "cli/commands.h"
#include "cli/image_command.h"
#include "cli/transfer_bars.h"
#include "oci/registry/push.h"
#include "runtime/images.h"

namespace sm {

namespace {

struct Typed {
  std::string platform;
  bool quiet = false;
};

Status push(const Typed& typed, const std::string& text) {
  const auto name = SM_TRY(parse_image_name(text));
  if (name.digest) {
    return fail(Code::kInvalidArgument, name.text() + " has a digest, which only content has",
                "push to a name with a tag");
  }
  std::optional<Platform> platform;
  if (!typed.platform.empty()) platform = SM_TRY(parse_platform_text(typed.platform));
  const auto folders = SM_TRY(ImageFolders::find());
  const auto store = SM_TRY(ImageStore::open(folders.store));
  const auto image = SM_TRY(store.get(text, platform));
  RegistryClient client(SM_TRY(registry_options(folders)));
  TransferBars bars("pushing", typed.quiet);
  const auto result = SM_TRY(push_image(store, client, image.source, name, bars.observer()));
  bars.clear();
  if (typed.quiet) {
    fmt::print("{}\n", name.text());
  } else {
    fmt::print("{}: digest: {} size: {}\n", name.tag, result.manifest.digest.text(),
               result.manifest.size);
  }
  return {};
}

}  // namespace

void add_push(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      "push", "Send an image of the store to its registry: push [OPTIONS] NAME[:TAG]");
  auto typed = std::make_shared<Typed>();
  command->add_option("--platform", typed->platform, "Which of the image's variants to send")
      ->type_name("OS/ARCH[/VARIANT]");
  command->add_flag("-q,--quiet", typed->quiet, "Print only the image's full name");
  set_image_action(*command, chosen, {1, 1, "the image's name"},
                   {"-a", "--all-tags", "--disable-content-trust"},
                   [typed](const auto& words) { return push(*typed, words[0]); });
}

}  // namespace sm
