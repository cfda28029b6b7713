// `inspect` and `history`: what an image's configuration says.
#include <fmt/format.h>

#include <memory>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/image_command.h"
#include "cli/image_rows.h"
#include "cli/sizes.h"
#include "cli/vm_commands.h"
#include "oci/json.h"
#include "oci/text.h"
#include "runtime/images.h"
#include "runtime/root_disk.h"

namespace sm {

namespace {

constexpr std::size_t kManyWords = 10'000;

std::string dump(const Json& json, int indent) { return dump_json(json, indent); }

Result<std::optional<Platform>> optional_platform(const std::string& text) {
  if (text.empty()) return std::optional<Platform>();
  return std::optional<Platform>(SM_TRY(parse_platform_text(text)));
}

Result<Json> describe(const ImageStore& store, const StoredImage& image) {
  const auto& source = image.source;
  const auto config = SM_TRY(parse_json_object(source.config_text(), "the image configuration"));
  Json tags = Json::array();
  Json digests = Json::array();
  for (const auto& entry : SM_TRY(store.entries())) {
    if (entry.target.digest != image.entry.target.digest || entry.name.empty()) continue;
    if (entry.name.find('@') == std::string::npos) tags.push_back(entry.name);
    const auto repository = entry.name.substr(0, entry.name.find('@'));
    const auto colon = repository.rfind(':');
    const bool has_tag = entry.name.find('@') == std::string::npos;
    digests.push_back((has_tag ? repository.substr(0, colon) : repository) + "@" +
                      entry.target.digest.text());
  }
  Json layers = Json::array();
  Json blobs = Json::array();
  for (const auto& layer : source.layers()) {
    layers.push_back(layer.diff_id.text());
    blobs.push_back({{"Digest", layer.digest ? layer.digest->text() : ""},
                     {"Size", layer.size},
                     {"MediaType", layer.media_type}});
  }
  const auto text = [&](const char* key) {
    return config.contains(key) && config[key].is_string() ? config[key] : Json("");
  };
  return Json{{"Id", source.id().text()},
              {"RepoTags", std::move(tags)},
              {"RepoDigests", std::move(digests)},
              {"Manifest", source.manifest() ? source.manifest()->digest.text() : ""},
              {"Created", text("created")},
              {"Author", text("author")},
              {"Os", source.config().platform.os},
              {"Architecture", source.config().platform.architecture},
              {"Variant", source.config().platform.variant},
              {"Size", image_size(source)},
              {"Config", config.contains("config") ? config["config"] : Json::object()},
              {"RootFS", {{"Type", "layers"}, {"Layers", std::move(layers)}}},
              {"Layers", std::move(blobs)}};
}

// VMs are asked first, as Docker does. One that is not there is no error here.
Result<std::optional<Json>> describe_if_vm(const std::string& word) {
  const auto registry = SM_TRY(VmRegistry::open());
  const auto vm = registry.find(word);
  if (!vm && vm.error().code() == Code::kNotFound) return std::optional<Json>();
  if (!vm) return fail(vm.error());
  const std::uint64_t disk_bytes = bytes_on_disk(registry.root_disk_of(vm->id));
  return std::optional<Json>(SM_TRY(parse_json_object(describe_vm(*vm, disk_bytes), "the VM")));
}

Status inspect(const std::string& format, const std::string& type, const std::string& platform,
               const std::vector<std::string>& words) {
  SM_TRY(wants_json(format));
  const auto wanted = SM_TRY(optional_platform(platform));
  Json out = Json::array();
  for (const auto& word : words) {
    auto vm = type == "image" ? std::optional<Json>() : SM_TRY(describe_if_vm(word));
    if (vm) {
      out.push_back(*std::move(vm));
      continue;
    }
    if (!type.empty() && type != "image") {
      return fail(Code::kNotFound, "there is no VM '" + printable(word) + "'",
                  "see `supermachine ps -a`");
    }
    const auto store = SM_TRY(ImageStore::open(SM_TRY(ImageFolders::find()).store));
    const auto image = store.get(word, wanted);
    if (!image && image.error().code() == Code::kNotFound && type.empty()) {
      return fail(Code::kNotFound, "there is neither a VM nor an image '" + printable(word) + "'",
                  "see `supermachine ps -a` and `supermachine images`");
    }
    if (!image) return fail(image.error());
    out.push_back(SM_TRY(describe(store, *image)));
  }
  fmt::print("{}\n", dump(out, 4));
  return {};
}

struct HistoryFlags {
  std::string format;
  bool quiet = false;
  bool no_trunc = false;
};

struct Step {
  std::string created;
  std::string by;
  std::string comment;
  std::uint64_t size = 0;
  bool empty_layer = false;
};

Result<std::vector<Step>> steps_of(const ImageSource& image) {
  constexpr std::string_view kWhat = "the history of the image configuration";
  const auto config = SM_TRY(parse_json_object(image.config_text(), "the image configuration"));
  std::vector<Step> out;
  std::size_t layer = 0;
  const Json* history = json_field(config, "history");
  if (history != nullptr && history->is_array()) {
    for (const auto& entry : *history) {
      if (!entry.is_object()) return fail(Code::kCorrupt, std::string(kWhat) + " holds no objects");
      Step step;
      step.created = SM_TRY(json_text(entry, "created", kWhat));
      step.by = SM_TRY(json_text(entry, "created_by", kWhat));
      step.comment = SM_TRY(json_text(entry, "comment", kWhat));
      step.empty_layer = entry.value("empty_layer", Json(false)) == Json(true);
      if (!step.empty_layer && layer < image.layers().size())
        step.size = image.layers()[layer++].size;
      out.push_back(std::move(step));
    }
  }
  // Layers of which the history does not tell.
  for (; layer < image.layers().size(); ++layer) {
    out.push_back({.created = {}, .by = {}, .comment = {}, .size = image.layers()[layer].size});
  }
  return out;
}

Status history(const HistoryFlags& flags, const std::string& word) {
  const bool json = SM_TRY(wants_json(flags.format));
  const auto store = SM_TRY(ImageStore::open(SM_TRY(ImageFolders::find()).store));
  const auto image = SM_TRY(store.get(word));
  auto steps = SM_TRY(steps_of(image.source));
  std::vector<std::vector<std::string>> table = {
      {"IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"}};
  for (std::size_t i = steps.size(); i-- > 0;) {
    const auto& step = steps[i];
    const auto id = i + 1 == steps.size() ? image.source.id().text() : std::string("<missing>");
    const auto shown_id = flags.no_trunc ? id : short_id(id);
    if (flags.quiet) {
      fmt::print("{}\n", shown_id);
    } else if (json) {
      fmt::print("{}\n", dump({{"ID", id},
                               {"CreatedAt", step.created},
                               {"CreatedBy", step.by},
                               {"Size", step.size},
                               {"Comment", step.comment}},
                              -1));
    } else {
      auto by = printable(step.by, flags.no_trunc ? 100'000 : 45);
      table.push_back({shown_id, human_age(step.created), std::move(by), human_size(step.size),
                       printable(step.comment)});
    }
  }
  if (!flags.quiet && !json) print_table(table);
  return {};
}

}  // namespace

void add_inspect(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      "inspect", "Show all about VMs and images of the store as JSON: inspect NAME|ID...");
  auto type = std::make_shared<std::string>();
  command->add_option("--type", *type, "vm (or container), or image: do not look for the other")
      ->type_name("TYPE")
      ->choices({"vm", "container", "image"});
  auto format = std::make_shared<std::string>();
  auto platform = std::make_shared<std::string>();
  command->add_option("--format", *format, "json")->type_name("FORMAT");
  command->add_option("--platform", *platform, "Which of an image's variants")
      ->type_name("OS/ARCH[/VARIANT]");
  set_image_action(*command, chosen, {1, kManyWords, "a name"}, {"-s", "--size", "-f"},
                   [format, type, platform](const auto& words) {
                     return inspect(*format, *type, *platform, words);
                   });
}

void add_history(Command& app, Action& chosen) {
  Command* command =
      app.add_subcommand("history", "Show how an image was made: history [OPTIONS] NAME|ID");
  auto flags = std::make_shared<HistoryFlags>();
  command->add_option("--format", flags->format, "table, or json: one object per line")
      ->type_name("FORMAT");
  command->add_flag("-q,--quiet", flags->quiet, "Print only ids");
  command->add_flag("--no-trunc", flags->no_trunc, "Cut nothing");
  set_image_action(*command, chosen, {1, 1, "the image's name"}, {"-H", "--human", "--platform"},
                   [flags](const auto& words) { return history(*flags, words[0]); });
}

}  // namespace sm
