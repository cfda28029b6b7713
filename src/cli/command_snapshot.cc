// `snapshot create|ls|inspect|verify|rm`: the saved VMs of the user's, and those that `run` keeps.
#include <fmt/format.h>

#include <array>
#include <ctime>
#include <memory>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/image_command.h"
#include "cli/sizes.h"
#include "cli/vm_command.h"
#include "oci/text.h"
#include "runtime/bake/saved_machine.h"
#include "runtime/bake/snapshot_cache.h"
#include "runtime/bake/tag_store.h"
#include "runtime/keeper/keeper_client.h"
#include "runtime/keeper/vm_registry.h"
#include "runtime/paths.h"
#include "vmm/snapshot/snapshot_dir.h"

namespace sm {

namespace {

struct Typed {
  std::string format;
  bool quiet = false;
  bool all = false;
};

Result<SnapshotCache> cache() { return SnapshotCache::open(SM_TRY(cache_dir()) + "/snapshots"); }

// The tagged ones first.
Result<std::vector<SnapshotCache::Entry>> all_entries() {
  std::vector<SnapshotCache::Entry> out = SM_TRY(TagStore::open(SM_TRY(cache_dir()))).entries();
  for (auto& entry : SM_TRY(cache()).entries()) {
    out.push_back(std::move(entry));
  }
  return out;
}

// A fingerprint is cut for people, a tag is not.
std::string shown(const std::string& name) {
  return TagStore::check(name) ? printable(name) : name.substr(0, 12);
}

// A folder, a tag, or the beginning of a name in the cache that fits only one.
Result<std::string> find(const std::string& word) {
  if (word.find('/') != std::string::npos) return word;
  const TagStore tags = SM_TRY(TagStore::open(SM_TRY(cache_dir())));
  if (tags.has(word)) return tags.path(word);
  std::vector<std::string> found;
  for (const SnapshotCache::Entry& entry : SM_TRY(cache()).entries()) {
    if (entry.name.starts_with(word)) found.push_back(entry.path);
  }
  if (found.size() == 1 && !word.empty()) return found.front();
  return fail(found.empty() ? Code::kNotFound : Code::kInvalidArgument,
              found.empty() ? "there is no snapshot " + printable(word)
                            : "more than one snapshot begins with " + printable(word),
              "see `supermachine snapshot ls`; a folder has a slash in its name");
}

std::string annotation(const SnapshotManifest& manifest, const std::string& key) {
  const auto it = manifest.annotations.find(key);
  return it == manifest.annotations.end() ? "" : it->second;
}

// RFC 3339, in UTC.
std::string created(const SnapshotManifest& manifest) {
  const auto seconds = static_cast<std::time_t>(manifest.created_unix_ns / 1'000'000'000);
  std::tm fields{};
  if (::gmtime_r(&seconds, &fields) == nullptr) return "";
  std::array<char, 32> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &fields)};
}

// ---- create ------------------------------------------------------------------------------------

// The keeper's own limits end it before: this is for one that does not answer.
constexpr Duration kMostSaves = std::chrono::minutes(15);

Result<std::string> new_place(const std::string& word, bool replace) {
  std::string path;
  if (word.find('/') != std::string::npos) {
    path = SM_TRY(absolute_path(word));
  } else {
    SM_TRY_STATUS(TagStore::check(word));
    const TagStore tags = SM_TRY(TagStore::open(SM_TRY(cache_dir())));
    if (!replace && tags.has(word)) {
      return fail(Code::kInvalidArgument, "there is a snapshot with the tag " + printable(word),
                  "use another tag, or --force to replace it");
    }
    path = tags.path(word);
  }
  SM_TRY_STATUS(check_snapshot_place(path, replace));
  return path;
}

Status create(bool replace, const std::vector<std::string>& words) {
  const auto registry = SM_TRY(VmRegistry::open());
  const VmRecord vm = SM_TRY(registry.find(words[0]));
  if (vm.state != VmState::kPaused) SM_TRY_STATUS(check_running(vm));
  const std::string path = SM_TRY(new_place(words[1], replace));
  const KeeperReply reply = SM_TRY(ask_vm(registry, vm,
                                          {.verb = KeeperVerb::kSave,
                                           .signal = 0,
                                           .seconds = std::nullopt,
                                           .text = path,
                                           .replace = replace},
                                          kMostSaves));
  fmt::print("{}: {} of memory, the VM stood still for {:.1f} ms\n", printable(words[1]),
             human_size(reply.saved_bytes), static_cast<double>(reply.pause_ns) / 1e6);
  return {};
}

void add_create_of_vm(Command& group, Action& chosen) {
  Command* command = group.add_subcommand(
      "create", "Save a VM that runs and goes on: create [OPTIONS] VM TAG|DIR");
  command->footer(
      "VM is a name or id of `ps`. DIR is a new folder, with a slash in its name. `restore` goes "
      "on\n"
      "from it, as often as wanted; a paused VM stays paused, its copies run.");
  auto force = std::make_shared<bool>(false);
  command->add_flag("-f,--force", *force, "Replace a snapshot that is there");
  set_image_action(*command, chosen, {2, 2, "a VM and a TAG"}, {},
                   [force](const auto& words) { return create(*force, words); });
}

// ---- ls ----------------------------------------------------------------------------------------

Status list(const Typed& typed) {
  const bool json = SM_TRY(wants_json(typed.format));
  std::vector<std::vector<std::string>> table = {
      {"SNAPSHOT", "IMAGE", "ENGINE", "CPUS", "MEMORY", "CREATED", "SIZE"}};
  for (const SnapshotCache::Entry& entry : SM_TRY(all_entries())) {
    const auto manifest = read_snapshot_manifest(entry.path);
    if (typed.quiet) {
      fmt::print("{}\n", entry.name);
      continue;
    }
    if (!manifest) {
      table.push_back({shown(entry.name), "<damaged>", "", "", "", "", human_size(entry.bytes)});
      continue;
    }
    if (json) {
      const nlohmann::json line = {{"Name", entry.name},
                                   {"Image", annotation(*manifest, "image")},
                                   {"Engine", manifest->engine},
                                   {"CpuModel", manifest->cpu_model},
                                   {"Cpus", manifest->vcpus},
                                   {"Memory", manifest->memory_bytes},
                                   {"CreatedAt", created(*manifest)},
                                   {"Size", entry.bytes}};
      fmt::print("{}\n", dump_json(line));
      continue;
    }
    table.push_back({shown(entry.name), printable(annotation(*manifest, "image")), manifest->engine,
                     std::to_string(manifest->vcpus),
                     std::to_string(manifest->memory_bytes >> 20) + " MiB",
                     human_age(created(*manifest)), human_size(entry.bytes)});
  }
  if (!typed.quiet && !json) print_table(table);
  return {};
}

void add_ls(Command& group, Action& chosen) {
  Command* command = group.add_subcommand(
      "ls", "List the saved VMs: those with a tag, and those that `run` keeps");
  auto typed = std::make_shared<Typed>();
  command->add_option("--format", typed->format, "table, or json: one object per line")
      ->type_name("FORMAT");
  command->add_flag("-q,--quiet", typed->quiet, "Print only names");
  set_image_action(*command, chosen, {0, 0, ""}, {}, [typed](const auto&) { return list(*typed); });
}

// ---- inspect, verify ---------------------------------------------------------------------------

Status inspect(const std::vector<std::string>& words) {
  nlohmann::json all = nlohmann::json::array();
  for (const std::string& word : words) {
    const auto manifest = SM_TRY(read_snapshot_manifest(SM_TRY(find(word))));
    all.push_back(SM_TRY(parse_json(encode_manifest(manifest), word)));
  }
  fmt::print("{}\n", dump_json(all, 2));
  return {};
}

Status verify(const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    const std::string path = SM_TRY(find(word));
    SM_TRY_STATUS(SM_TRY(Snapshot::open(path)).verify());
    fmt::print("{}: whole\n", printable(path));
  }
  return {};
}

// ---- rm ----------------------------------------------------------------------------------------

Status remove(const Typed& typed, std::vector<std::string> words) {
  if (typed.all != words.empty()) {
    return fail(Code::kInvalidArgument, "snapshot rm takes either names or --all",
                "see `supermachine snapshot rm --help`");
  }
  if (typed.all) {
    // By what they are, not by names that tags could have as well.
    for (const SnapshotCache::Entry& entry : SM_TRY(cache()).entries()) {
      auto status = remove_snapshot(entry.path);
      if (!status && status.error().code() == Code::kNotFound) continue;  // `run` was faster
      SM_TRY_STATUS(std::move(status));
      fmt::print("{}\n", printable(entry.name));
    }
  }
  for (const std::string& word : words) {
    SM_TRY_STATUS(remove_snapshot(SM_TRY(find(word))));
    fmt::print("{}\n", printable(word));
  }
  return {};
}

void add_rm(Command& group, Action& chosen) {
  Command* command = group.add_subcommand("rm", "Remove saved VMs: rm [OPTIONS] SNAPSHOT...");
  command->footer("Running VMs keep what they have of them.");
  auto typed = std::make_shared<Typed>();
  command->add_flag("-a,--all", typed->all, "Remove all that `run` keeps");
  set_image_action(*command, chosen, {0, 1000, "SNAPSHOT"}, {},
                   [typed](const auto& words) { return remove(*typed, words); });
}

}  // namespace

void add_snapshot(Command& app, Action& chosen) {
  Command* group =
      app.add_subcommand("snapshot", "Manage saved VMs: create, ls, inspect, verify, rm");
  group->footer("SNAPSHOT is the beginning of a name of `snapshot ls`, or a folder.");
  group->require_subcommand(1);
  add_create_of_vm(*group, chosen);
  add_ls(*group, chosen);
  set_image_action(
      *group->add_subcommand("inspect", "Print a saved VM's manifest: inspect SNAPSHOT..."), chosen,
      {1, 1000, "SNAPSHOT"}, {}, inspect);
  set_image_action(
      *group->add_subcommand("verify", "Read a saved VM and check its sums: verify SNAPSHOT..."),
      chosen, {1, 1000, "SNAPSHOT"}, {}, verify);
  add_rm(*group, chosen);
}

}  // namespace sm
