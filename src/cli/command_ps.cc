// `ps`: the VMs that have a record.
#include <fmt/format.h>

#include <map>
#include <memory>
#include <optional>

#include "base/json.h"
#include "cli/image_command.h"
#include "cli/image_rows.h"
#include "cli/sizes.h"
#include "cli/vm_command.h"
#include "cli/vm_commands.h"
#include "oci/reference.h"
#include "oci/text.h"
#include "runtime/images.h"
#include "runtime/keeper/port_spec.h"
#include "runtime/root_disk.h"

namespace sm {

namespace {

constexpr std::size_t kShownCommand = 20;

struct Typed {
  bool all = false;
  bool quiet = false;
  bool no_trunc = false;
  bool latest = false;
  bool size = false;
  std::size_t last = 0;
  std::vector<std::string> filters;
  std::string format;
};

struct Filter {
  std::string key;
  std::string value;
};

Result<std::vector<Filter>> parse_filters(const std::vector<std::string>& texts) {
  std::vector<Filter> out;
  for (const std::string& text : texts) {
    const auto equals = text.find('=');
    Filter filter{text.substr(0, equals),
                  equals == std::string::npos ? "" : text.substr(equals + 1)};
    const bool known = filter.key == "name" || filter.key == "id" || filter.key == "status" ||
                       filter.key == "label" || filter.key == "exited" || filter.key == "ancestor";
    if (!known || equals == std::string::npos) {
      return fail(Code::kUnsupported, "--filter " + text + " is not supported",
                  "use name=, id=, status=, label=, exited= or ancestor=");
    }
    out.push_back(std::move(filter));
  }
  return out;
}

bool has_label(const VmRecord& vm, const std::string& wanted) {
  const auto equals = wanted.find('=');
  const auto it = vm.labels.find(wanted.substr(0, equals));
  if (it == vm.labels.end()) return false;
  return equals == std::string::npos || it->second == wanted.substr(equals + 1);
}

bool passes(const VmRecord& vm, const Filter& f) {
  if (f.key == "name") return vm.name.find(f.value) != std::string::npos;
  if (f.key == "id") return vm.id.starts_with(f.value);
  if (f.key == "status") return vm_state_text(vm.state) == f.value;
  if (f.key == "label") return has_label(vm, f.value);
  if (f.key == "exited") {
    return vm.state == VmState::kExited && std::to_string(vm.exit_code) == f.value;
  }
  return vm.image == f.value || vm.image_digest == f.value;
}

// Values of one key: any of them; different keys: all of them. Labels: all.
bool passes_all(const VmRecord& vm, const std::vector<Filter>& filters) {
  for (const Filter& f : filters) {
    if (f.key == "label") {
      if (!passes(vm, f)) return false;
      continue;
    }
    const bool any = std::any_of(filters.begin(), filters.end(), [&](const Filter& other) {
      return other.key == f.key && passes(vm, other);
    });
    if (!any) return false;
  }
  return true;
}

std::string command_text(const VmRecord& vm, bool whole) {
  std::string text;
  for (const std::string& word : vm.command) text += (text.empty() ? "" : " ") + word;
  text = printable(text, 100'000);
  if (!whole && text.size() > kShownCommand) text = text.substr(0, kShownCommand - 3) + "...";
  return "\"" + text + "\"";
}

std::string open_ports(const VmRecord& vm) {
  const bool open = vm.state == VmState::kRunning || vm.state == VmState::kPaused;
  return open ? ports_text(vm.ports) : "";
}

// What a VM takes on the disk.
struct Sizes {
  std::uint64_t own = 0;               // for what it has written
  std::optional<std::uint64_t> image;  // of the image below, which others may share

  std::string text() const {
    const std::string out = human_size(own);
    return image ? out + " (virtual " + human_size(own + *image) + ")" : out;
  }
};

// Of the images asked for so far, by their ids.
class ImageSizes {
 public:
  // Nothing for an image that cannot be read any more.
  std::optional<std::uint64_t> of(const VmRecord& vm) {
    const auto [it, is_new] = known_.try_emplace(vm.image_digest);
    if (is_new) it->second = read(vm);
    return it->second;
  }

 private:
  static std::optional<std::uint64_t> read(const VmRecord& vm) {
    const auto size = [&vm](const Result<ImageSource>& image) -> std::optional<std::uint64_t> {
      if (!image || image->id().text() != vm.image_digest) return std::nullopt;
      return image_size(*image);
    };
    if (is_local_reference(vm.image)) {
      auto reference = parse_reference(vm.image);
      if (!reference) return std::nullopt;
      // Paths are those of where it was typed.
      if (!reference->path.starts_with('/')) reference->path = vm.folder + "/" + reference->path;
      return size(ImageSource::open(*reference, Platform{}));
    }
    const auto folders = ImageFolders::find();
    if (!folders) return std::nullopt;
    const auto store = ImageStore::open(folders->store);
    if (!store) return std::nullopt;
    auto found = store->get(vm.image_digest);
    return found ? size(std::move(found->source)) : std::nullopt;
  }

  std::map<std::string, std::optional<std::uint64_t>> known_;
};

void print_json(const VmRecord& vm, const std::optional<Sizes>& sizes) {
  std::string labels;
  for (const auto& [key, value] : vm.labels) {
    labels += (labels.empty() ? "" : ",") + key + "=" + value;
  }
  nlohmann::json line = {{"ID", vm.id},
                         {"Names", vm.name},
                         {"Image", vm.image},
                         {"Command", command_text(vm, true)},
                         {"CreatedAt", rfc3339(vm.created_ns)},
                         {"RunningFor", human_span(unix_now_ns() - vm.created_ns) + " ago"},
                         {"State", vm_state_text(vm.state)},
                         {"Status", vm_status_text(vm)},
                         {"ExitCode", vm.exit_code},
                         {"Ports", open_ports(vm)},
                         {"Labels", labels}};
  if (sizes) line["Size"] = sizes->text();
  fmt::print("{}\n", dump_json(line));
}

Status list(const Typed& typed) {
  const bool json = SM_TRY(wants_json(typed.format));
  const auto filters = SM_TRY(parse_filters(typed.filters));
  const bool asks_state = std::any_of(filters.begin(), filters.end(), [](const auto& f) {
    return f.key == "status" || f.key == "exited";
  });
  const std::size_t last = typed.latest ? 1 : typed.last;
  const bool all = typed.all || asks_state || last > 0;
  const auto registry = SM_TRY(VmRegistry::open());
  auto vms = SM_TRY(registry.all());
  std::reverse(vms.begin(), vms.end());  // the newest first
  if (last > 0 && vms.size() > last) vms.resize(last);
  std::vector<std::vector<std::string>> table = {
      {"VM ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"}};
  if (typed.size) table[0].emplace_back("SIZE");
  ImageSizes images;
  for (const auto& vm : vms) {
    if ((!all && !is_live(vm.state)) || !passes_all(vm, filters)) continue;
    std::optional<Sizes> sizes;
    if (typed.size) sizes = {bytes_on_disk(registry.root_disk_of(vm.id)), images.of(vm)};
    const std::string id = typed.no_trunc ? vm.id : short_vm_id(vm.id);
    if (typed.quiet) {
      fmt::print("{}\n", id);
    } else if (json) {
      print_json(vm, sizes);
    } else {
      table.push_back({id, printable(vm.image), command_text(vm, typed.no_trunc),
                       human_span(unix_now_ns() - vm.created_ns) + " ago", vm_status_text(vm),
                       open_ports(vm), vm.name});
      if (sizes) table.back().push_back(sizes->text());
    }
  }
  if (!typed.quiet && !json) print_table(table);
  return {};
}

}  // namespace

void add_ps(Command& app, Action& chosen, const std::string& verb) {
  Command* command = app.add_subcommand(verb, "List VMs: " + verb + " [OPTIONS]");
  auto typed = std::make_shared<Typed>();
  command->add_flag("-a,--all", typed->all, "Those that have ended, too");
  command->add_flag("-q,--quiet", typed->quiet, "Print only ids");
  command->add_flag("--no-trunc", typed->no_trunc, "Cut nothing");
  command->add_flag("-s,--size", typed->size,
                    "What each takes on the disk, and (virtual) with its image");
  command->add_flag("-l,--latest", typed->latest, "The newest one only, whatever its state");
  command->add_option("-n,--last", typed->last, "The N newest ones, whatever their state")
      ->type_name("N");
  command
      ->add_option("-f,--filter", typed->filters,
                   "name=, id=, status=, label=, exited= or ancestor=")
      ->type_name("KEY=VALUE");
  command->add_option("--format", typed->format, "table, or json: one object per line")
      ->type_name("FORMAT");
  set_image_action(*command, chosen, {0, 0, ""}, {}, [typed](const auto&) { return list(*typed); });
}

}  // namespace sm
