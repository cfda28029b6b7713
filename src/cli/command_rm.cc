// `rm`, `rename`, `prune`, `port`: records of VMs.
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>

#include "cli/image_command.h"
#include "cli/output.h"
#include "cli/sizes.h"
#include "cli/vm_command.h"
#include "cli/vm_commands.h"
#include "runtime/keeper/event_log.h"
#include "runtime/keeper/keeper_claim.h"
#include "runtime/keeper/keeper_client.h"
#include "runtime/keeper/lock_holders.h"
#include "runtime/keeper/port_spec.h"
#include "runtime/paths.h"
#include "runtime/vm_dir.h"

namespace sm {

namespace {

// From the wish to the end of VM and keeper; another process may start it again meanwhile.
constexpr Duration kMostEnds = std::chrono::seconds(40);
// A keeper that has not ended its VM after so long is killed; one that is about to start it answers
// when it has the image.
constexpr Duration kMostAnswers = std::chrono::seconds(5);
constexpr Duration kMostPrepares = std::chrono::seconds(20);
constexpr Duration kMostDies = std::chrono::seconds(10);

const KeeperRequest kKillNow{
    .verb = KeeperVerb::kKill, .signal = 9, .seconds = std::nullopt, .text = {}};

Status remove_held(const VmRegistry& registry, HeldRecord held) {
  const VmRecord record = held.record;
  // A keeper that was killed has left its socket and its folder.
  if (!record.keeper_socket.empty()) ::unlink(record.keeper_socket.c_str());
  if (const auto runtime = runtime_dir(); held.record.lost && runtime) {
    VmDir::remove_dead(*runtime);
  }
  SM_TRY_STATUS(registry.remove(std::move(held)));
  EventLog(registry.folder()).add(record, "destroy");
  return {};
}

// It may have ended, or been removed, while we looked for who keeps it.
Status end_by_force(const VmRegistry& registry, const VmRecord& vm) {
  auto ended = end_lock_holders(registry.folder_of(vm.id) + "/lock", vm.worker_pid, kMostDies);
  return ended || !registry.is_held(vm.id) ? Status() : ended;
}

Status end_vm(const VmRegistry& registry, const VmRecord& vm) {
  const auto reply =
      ask_keeper(vm, kKillNow, vm.state == VmState::kCreated ? kMostPrepares : kMostAnswers);
  // When it is not there any more, it has ended by itself.
  if (reply || reply.error().code() != Code::kTimeout) return {};
  return end_by_force(registry, vm);
}

// The VM at rest, which it is brought to by `force`.
Result<HeldRecord> hold_to_remove(const VmRegistry& registry, const VmRecord& vm, bool force) {
  const Deadline deadline = Deadline::after(kMostEnds);
  const Deadline gentle = Deadline::after(kMostPrepares);
  for (;;) {
    auto held = registry.hold(vm.id);
    if (held || held.error().code() != Code::kInvalidArgument || deadline.passed()) return held;
    const auto now = registry.find(vm.id);
    if (now && is_kept(*now)) {
      if (!force) {
        return fail(Code::kInvalidArgument, "the VM " + vm.name + " is running",
                    "stop it first, or use rm -f");
      }
      SM_TRY_STATUS(end_vm(registry, *now));
    }
    // Held by somebody who cannot be asked.
    if (force && gentle.passed()) SM_TRY_STATUS(end_by_force(registry, now.value_or(vm)));
    // A lock has nothing that could be waited for with a deadline.
    ::poll(nullptr, 0, 5);
  }
}

Status remove_one(const VmRegistry& registry, const VmRecord& vm, bool force) {
  auto held = hold_to_remove(registry, vm, force);
  if (!held) {
    // One with --rm removes itself.
    const bool gone = held.error().code() == Code::kNotFound;
    return force && gone ? Status() : fail(std::move(held).error());
  }
  return remove_held(registry, *std::move(held));
}

// Of a VM whose record nobody can read only the place of its keeper's socket is known.
Status remove_unreadable(const VmRegistry& registry, const std::string& word) {
  const Deadline deadline = Deadline::after(kMostEnds);
  const std::string id = SM_TRY(registry.id_of(word));
  for (;;) {
    auto removed = registry.remove_unreadable(id);
    if (removed || removed.error().code() == Code::kNotFound) break;
    if (removed.error().code() != Code::kInvalidArgument || deadline.passed()) return removed;
    VmRecord vm;
    vm.id = id;
    vm.state = VmState::kRunning;
    vm.keeper_socket = SM_TRY(keeper_socket_of(id));
    SM_TRY_STATUS(end_vm(registry, vm));
    ::poll(nullptr, 0, 5);
  }
  if (const auto runtime = runtime_dir()) VmDir::remove_dead(*runtime);
  return {};
}

Status remove_all(bool force, const std::vector<std::string>& words) {
  const auto registry = SM_TRY(VmRegistry::open());
  std::vector<std::string> readable;
  bool failed = false;
  for (const std::string& word : words) {
    const auto vm = registry.find(word);
    const Code code = vm ? Code::kInternal : vm.error().code();
    if (force && !vm && code == Code::kNotFound) continue;  // as Docker has it
    const bool unreadable =
        code == Code::kCorrupt || code == Code::kLimit || code == Code::kUnsupported;
    if (force && !vm && unreadable) {
      auto removed = remove_unreadable(registry, word);
      if (removed) {
        fmt::print("{}\n", word);
      } else {
        print_error(removed.error());
        failed = true;
      }
      continue;
    }
    readable.push_back(word);
  }
  SM_TRY_STATUS(each_vm(readable, [force](const auto& where, const VmRecord& vm) {
    return remove_one(where, vm, force);
  }));
  if (failed) return fail(Code::kCorrupt, "not all of them were removed");
  return {};
}

// What the files take on the disk: a VM's own disk is mostly holes.
std::uint64_t size_of(const std::string& folder) {
  std::uint64_t out = 0;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    struct stat info {};
    if (::lstat(entry.path().c_str(), &info) == 0) {
      out += static_cast<std::uint64_t>(info.st_blocks) * 512;
    }
  }
  return out;
}

Status prune() {
  const auto registry = SM_TRY(VmRegistry::open());
  std::uint64_t bytes = 0;
  for (const auto& vm : SM_TRY(registry.all())) {
    if (is_live(vm.state)) continue;
    auto held = registry.hold(vm.id);
    if (!held) continue;  // about to start, or damaged
    const std::uint64_t size = size_of(registry.folder_of(vm.id));
    if (!remove_held(registry, *std::move(held))) continue;
    bytes += size;
    fmt::print("{}\n", vm.id);
  }
  registry.sweep();
  fmt::print("Total reclaimed space: {}\n", human_size(bytes));
  return {};
}

Status rename(const std::string& word, const std::string& name) {
  const auto registry = SM_TRY(VmRegistry::open());
  const VmRecord vm = SM_TRY(registry.find(word));
  const Deadline deadline = Deadline::after(kMostEnds);
  for (;;) {
    auto held = registry.hold(vm.id);
    if (held) {
      SM_TRY_STATUS(registry.rename(*held, name));
      EventLog(registry.folder()).add(held->record, "rename");
      return {};
    }
    if (held.error().code() != Code::kInvalidArgument) return fail(std::move(held).error());
    auto reply =
        ask_vm(registry, vm,
               {.verb = KeeperVerb::kRename, .signal = 0, .seconds = std::nullopt, .text = name});
    if (reply) return {};
    // It has ended meanwhile: then it can be held.
    if (reply.error().code() != Code::kGone || deadline.passed()) {
      return fail(std::move(reply).error());
    }
  }
}

Status ports(const std::vector<std::string>& words) {
  const auto registry = SM_TRY(VmRegistry::open());
  const VmRecord vm = SM_TRY(registry.find(words[0]));
  bool found = false;
  PortRange wanted;
  if (words.size() == 2) wanted = SM_TRY(parse_guest_ports(words[1]));
  for (const auto& port : vm.ports) {
    if (!is_live(vm.state)) break;
    const std::string host = host_port_text(port);
    if (words.size() == 1) {
      fmt::print("{}/tcp -> {}\n", port.guest, host);
      continue;
    }
    if (port.guest < wanted.first || port.guest > wanted.last) continue;
    fmt::print("{}\n", host);
    found = true;
  }
  if (words.size() == 1 || found) return {};
  return fail(Code::kNotFound, "port " + words[1] + " of " + vm.name + " is not published",
              "see `supermachine port " + vm.name + "`");
}

}  // namespace

void add_rm(Command& app, Action& chosen) {
  Command* command =
      app.add_subcommand("rm", "Remove VMs that have ended, with their logs: rm [OPTIONS] VM...");
  auto force = std::make_shared<bool>(false);
  command->add_flag("-f,--force", *force,
                    "Kill those that run; do not complain about missing ones");
  auto volumes = std::make_shared<bool>(false);
  command->add_flag("-v,--volumes", *volumes, "For Docker's sake: VMs have none of their own");
  set_image_action(*command, chosen, {1, kManyVms, "the VM's name or id"}, {"-l", "--link"},
                   [force](const auto& words) { return remove_all(*force, words); });
}

void add_rename(Command& app, Action& chosen) {
  Command* command = app.add_subcommand("rename", "Give a VM another name: rename VM NAME");
  set_image_action(*command, chosen, {2, 2, "the VM, and its new name"}, {},
                   [](const auto& words) { return rename(words[0], words[1]); });
}

void add_prune(Command& app, Action& chosen) {
  Command* command = app.add_subcommand("prune", "Remove all VMs that do not run: prune [OPTIONS]");
  auto force = std::make_shared<bool>(false);
  command->add_flag("-f,--force", *force, "For Docker's sake: nothing is asked anyway");
  set_image_action(*command, chosen, {0, 0, ""}, {"--filter"}, [](const auto&) { return prune(); });
}

void add_port(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      "port", "Show which ports of this host lead to a VM: port VM [PORT[/tcp]]");
  set_image_action(*command, chosen, {1, 2, "the VM's name or id"}, {},
                   [](const auto& words) { return ports(words); });
}

}  // namespace sm
