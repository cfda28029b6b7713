// `image ...`, `system df`: the image commands by Docker's longer names, and what only lives there.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <memory>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/image_command.h"
#include "cli/sizes.h"
#include "oci/store/prune.h"
#include "oci/text.h"
#include "runtime/keeper/image_use.h"
#include "runtime/paths.h"

namespace sm {

namespace {

struct PruneFlags {
  bool all = false;
  bool force = false;
  std::string format;
};

// Asks on the terminal; without one the user has to say -f.
Result<bool> confirmed(bool all) {
  if (::isatty(STDIN_FILENO) != 1) {
    return fail(Code::kInvalidArgument,
                "image prune asks before it removes, and there is no terminal", "use -f");
  }
  fmt::print(stderr, "This removes {}. Go on? [y/N] ",
             all ? "all images that no VM is made of" : "all images that have no name any more");
  std::fflush(stderr);
  const int answer = std::getchar();
  return answer == 'y' || answer == 'Y';
}

Status prune(const PruneFlags& flags) {
  const bool json = SM_TRY(wants_json(flags.format));
  if (!flags.force && !SM_TRY(confirmed(flags.all))) return {};
  const auto registry = SM_TRY(VmRegistry::open());
  const auto cache = SM_TRY(cache_dir());
  const auto report = SM_TRY(prune_images(SM_TRY(ImageFolders::find()), flags.all,
                                          [&] { return image_use(registry, cache); }));
  if (json) {
    const nlohmann::json out = {{"Untagged", report.names},
                                {"Blobs", report.blobs},
                                {"Layers", report.layers},
                                {"SpaceReclaimed", report.bytes}};
    fmt::print("{}\n", dump_json(out));
    return {};
  }
  for (const auto& name : report.names) fmt::print("Untagged: {}\n", printable(name));
  for (const auto& digest : report.blobs) fmt::print("Deleted: {}\n", digest);
  for (const auto& layer : report.layers)
    fmt::print("Deleted converted layer: {}\n", printable(layer));
  fmt::print("Total reclaimed space: {}\n", human_size(report.bytes));
  return {};
}

struct Usage {
  const char* type;
  std::size_t count = 0;
  std::size_t active = 0;
  std::uint64_t size = 0;
  std::uint64_t reclaimable = 0;
};

Result<std::vector<Usage>> disk_usage() {
  const auto folders = SM_TRY(ImageFolders::find());
  const auto store = SM_TRY(ImageStore::open(folders.store));
  Usage images{.type = "Images"};
  for (const auto& entry : SM_TRY(store.entries())) {
    ++images.count;
    if (store.open_image(entry, std::nullopt)) ++images.active;
  }
  for (const auto& blob : SM_TRY(list_blobs(store))) {
    images.size += blob.size;
    if (!blob.used) images.reclaimable += blob.size;
  }
  Usage layers{.type = "Converted layers"};
  for (const auto& layer : SM_TRY(layer_usage(folders))) {
    ++layers.count;
    layers.size += layer.size;
    if (layer.needed) ++layers.active;
    if (!layer.needed) layers.reclaimable += layer.size;
  }
  return std::vector<Usage>{images, layers};
}

Status print_usage(const std::string& format) {
  const bool json = SM_TRY(wants_json(format));
  std::vector<std::vector<std::string>> table = {
      {"TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"}};
  for (const auto& usage : SM_TRY(disk_usage())) {
    if (json) {
      const nlohmann::json line = {{"Type", usage.type},
                                   {"TotalCount", usage.count},
                                   {"Active", usage.active},
                                   {"Size", usage.size},
                                   {"Reclaimable", usage.reclaimable}};
      fmt::print("{}\n", dump_json(line));
    }
    table.push_back({usage.type, std::to_string(usage.count), std::to_string(usage.active),
                     human_size(usage.size), human_size(usage.reclaimable)});
  }
  if (!json) print_table(table);
  return {};
}

void add_prune(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      "prune", "Remove images without a name that no VM is made of, and what belongs to no image");
  auto flags = std::make_shared<PruneFlags>();
  command->add_flag("-a,--all", flags->all, "Remove all images that no VM is made of");
  command->add_flag("-f,--force", flags->force, "Do not ask");
  command->add_option("--format", flags->format, "text, or json")->type_name("FORMAT");
  set_image_action(*command, chosen, {0, 0, ""}, {"--filter"},
                   [flags](const auto&) { return prune(*flags); });
}

}  // namespace

void add_image(Command& app, Action& chosen) {
  Command* group = app.add_subcommand(
      "image", "Manage images: ls, pull, push, rm, tag, inspect, history, save, load, prune");
  group->require_subcommand(1);
  add_images(*group, chosen, "ls");
  add_pull(*group, chosen);
  add_push(*group, chosen);
  add_rmi(*group, chosen, "rm");
  add_tag(*group, chosen);
  add_inspect(*group, chosen);
  add_history(*group, chosen);
  add_save(*group, chosen);
  add_load(*group, chosen);
  add_prune(*group, chosen);
}

void add_system(Command& app, Action& chosen) {
  Command* group = app.add_subcommand("system", "About this program's data: df");
  group->require_subcommand(1);
  Command* command = group->add_subcommand("df", "Show how much disk images take");
  auto format = std::make_shared<std::string>();
  command->add_option("--format", *format, "table, or json: one object per line")
      ->type_name("FORMAT");
  set_image_action(*command, chosen, {0, 0, ""}, {"-v", "--verbose"},
                   [format](const auto&) { return print_usage(*format); });
}

}  // namespace sm
