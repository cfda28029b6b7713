#include <fmt/format.h>

#include <memory>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/image_command.h"
#include "cli/image_rows.h"
#include "cli/sizes.h"
#include "runtime/images.h"

namespace sm {

namespace {

struct Typed {
  std::string format;
  bool quiet = false;
  bool no_trunc = false;
  bool digests = false;
};

void print_json(const ImageRow& row) {
  const nlohmann::json line = {
      {"Repository", row.repository}, {"Tag", row.tag},   {"Digest", row.digest},    {"ID", row.id},
      {"CreatedAt", row.created},     {"Size", row.size}, {"Platform", row.platform}};
  fmt::print("{}\n", dump_json(line));
}

bool matches(const ImageRow& row, const std::vector<std::string>& words) {
  if (words.empty()) return true;
  const auto name = parse_image_name(words[0]);
  if (!name || row.full_repository != name->repository_text()) return false;
  // Without a tag all of a repository are meant.
  const auto last = words[0].substr(words[0].rfind('/') + 1);
  if (name->digest) return row.digest == name->digest->text();
  return last.find(':') == std::string::npos || row.tag == name->tag;
}

Status list(const Typed& typed, const std::vector<std::string>& words) {
  const bool json = SM_TRY(wants_json(typed.format));
  if (!words.empty()) SM_TRY(parse_image_name(words[0]));
  const auto folders = SM_TRY(ImageFolders::find());
  const auto store = SM_TRY(ImageStore::open(folders.store));
  std::vector<std::vector<std::string>> table = {{"REPOSITORY", "TAG"}};
  if (typed.digests) table[0].push_back("DIGEST");
  for (const char* head : {"IMAGE ID", "CREATED", "SIZE"}) table[0].push_back(head);
  for (const auto& row : SM_TRY(image_rows(store))) {
    if (!matches(row, words)) continue;
    const auto id = typed.no_trunc ? row.id : short_id(row.id);
    if (typed.quiet) {
      fmt::print("{}\n", id);
    } else if (json) {
      print_json(row);
    } else {
      std::vector<std::string> cells = {row.repository, row.tag};
      if (typed.digests) cells.push_back(row.digest);
      cells.insert(cells.end(), {id, human_age(row.created), human_size(row.size)});
      table.push_back(std::move(cells));
    }
  }
  if (!typed.quiet && !json) print_table(table);
  return {};
}

}  // namespace

void add_images(Command& app, Action& chosen, const std::string& verb) {
  Command* command =
      app.add_subcommand(verb, "List the images of the store: " + verb + " [OPTIONS] [NAME[:TAG]]");
  auto typed = std::make_shared<Typed>();
  command->add_option("--format", typed->format, "table, or json: one object per line")
      ->type_name("FORMAT");
  command->add_flag("-q,--quiet", typed->quiet, "Print only ids");
  command->add_flag("--no-trunc", typed->no_trunc, "Print whole ids");
  command->add_flag("--digests", typed->digests, "Show digests");
  set_image_action(*command, chosen, {0, 1, ""}, {"-a", "--all", "-f", "--filter", "--tree"},
                   [typed](const auto& words) { return list(*typed, words); });
}

}  // namespace sm
