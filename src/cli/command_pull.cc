#include <fmt/format.h>

#include <memory>

#include "cli/commands.h"
#include "cli/image_command.h"
#include "cli/transfer_bars.h"
#include "runtime/images.h"

namespace sm {

namespace {

struct Typed {
  std::string platform = "linux/amd64";
  bool quiet = false;
};

Status pull(const Typed& typed, const std::string& text) {
  const auto name = SM_TRY(parse_image_name(text));
  const auto folders = SM_TRY(ImageFolders::find());
  const auto store = SM_TRY(ImageStore::open(folders.store));
  RegistryClient client(SM_TRY(registry_options(folders)));
  TransferBars bars("pulling", typed.quiet);
  PullOptions options;
  options.platform = SM_TRY(parse_platform_text(typed.platform));
  options.observer = bars.observer();
  const auto result = SM_TRY(pull_image(store, client, name, options));
  bars.clear();
  if (typed.quiet) {
    fmt::print("{}\n", name.text());
    return {};
  }
  fmt::print("Digest: {}\n", result.target.digest.text());
  fmt::print("Status: {} {}\n",
             result.changed ? "Downloaded newer image for" : "Image is up to date for",
             name.text());
  fmt::print("{}\n", name.text());
  return {};
}

}  // namespace

void add_pull(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      "pull", "Fetch an image from a registry: pull [OPTIONS] NAME[:TAG|@DIGEST]");
  auto typed = std::make_shared<Typed>();
  command->add_option("--platform", typed->platform, "Which of an image's variants to fetch")
      ->type_name("OS/ARCH[/VARIANT]")
      ->capture_default_str();
  command->add_flag("-q,--quiet", typed->quiet, "Print only the image's full name");
  command->footer(
      "Logins of `docker login` and `podman login` are used. Mirrors, certificates and plain HTTP "
      "are set\n"
      "in ~/.config/supermachine/registries.json; see docs/reference/images.md.");
  set_image_action(*command, chosen, {1, 1, "the image's name"},
                   {"-a", "--all-tags", "--disable-content-trust"},
                   [typed](const auto& words) { return pull(*typed, words[0]); });
}

}  // namespace sm
