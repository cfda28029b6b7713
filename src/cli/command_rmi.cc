#include <fmt/format.h>

#include <memory>

#include "cli/commands.h"
#include "cli/image_command.h"
#include "cli/output.h"
#include "oci/text.h"
#include "runtime/keeper/image_use.h"
#include "runtime/paths.h"

namespace sm {

namespace {

constexpr std::size_t kManyWords = 10'000;

// Each name by itself: one that is missing does not keep the others.
Status remove_all(bool force, const std::vector<std::string>& words) {
  const auto store = SM_TRY(ImageStore::open(SM_TRY(ImageFolders::find()).store));
  const auto registry = SM_TRY(VmRegistry::open());
  const auto cache = SM_TRY(cache_dir());
  std::vector<Error> errors;
  for (const auto& word : words) {
    const auto report =
        remove_image(store, word, force, [&] { return image_use(registry, cache); });
    if (!report) {
      const bool forgiven = force && report.error().code() == Code::kNotFound;
      if (!forgiven) errors.push_back(report.error());
      continue;
    }
    for (const auto& name : report->untagged) fmt::print("Untagged: {}\n", printable(name));
    for (const auto& digest : report->deleted) fmt::print("Deleted: {}\n", digest);
  }
  if (errors.empty()) return {};
  for (std::size_t i = 0; i + 1 < errors.size(); ++i) print_error(errors[i]);
  return fail(errors.back());
}

Status tag(const std::string& from, const std::string& to) {
  const auto name = SM_TRY(parse_image_name(to));
  if (name.digest) {
    return fail(Code::kInvalidArgument,
                "\"" + printable(to) + "\" has a digest, which only content has",
                "give a name with a tag");
  }
  const auto store = SM_TRY(ImageStore::open(SM_TRY(ImageFolders::find()).store));
  const auto lease = SM_TRY(store.lease());
  const auto found = SM_TRY(store.find(from));
  return store.set(name.text(), found.front().target);
}

}  // namespace

void add_rmi(Command& app, Action& chosen, const std::string& verb) {
  Command* command =
      app.add_subcommand(verb, "Remove images from the store: " + verb + " [OPTIONS] NAME|ID...");
  auto force = std::make_shared<bool>(false);
  command->add_flag(
      "-f,--force", *force,
      "Remove all names of an id, and the last one of an image that VMs are made of; do "
      "not complain about missing ones");
  set_image_action(*command, chosen, {1, kManyWords, "the image's name"},
                   {"--no-prune", "--platform"},
                   [force](const auto& words) { return remove_all(*force, words); });
}

void add_tag(Command& app, Action& chosen) {
  Command* command =
      app.add_subcommand("tag", "Give an image a further name: tag NAME|ID NEW-NAME");
  set_image_action(*command, chosen, {2, 2, "the new name"}, {},
                   [](const auto& words) { return tag(words[0], words[1]); });
}

}  // namespace sm
