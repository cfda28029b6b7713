// `start` and `restart`: VMs that have a record run again.
#include <fmt/format.h>
#include <poll.h>

#include <memory>

#include "cli/image_command.h"
#include "cli/output.h"
#include "cli/vm_command.h"
#include "cli/vm_commands.h"
#include "cli/vm_start.h"
#include "runtime/keeper/keeper_client.h"

namespace sm {

namespace {

// So long may a VM go from one hand to the next.
constexpr Duration kMostTurns = std::chrono::seconds(10);
// A start has a deadline of its own, which is shorter.
constexpr Duration kOthersStart = std::chrono::minutes(5);

// Somebody else keeps the VM. Nothing when it runs now; false when nobody keeps it any more.
Result<bool> started_by_another(const VmRegistry& registry, const VmRecord& vm) {
  auto reply =
      ask_vm(registry, vm, {.verb = KeeperVerb::kStarted, .signal = 0, .seconds = {}, .text = {}},
             kOthersStart);
  if (reply) return true;
  if (reply.error().code() == Code::kGone) return false;
  return fail(std::move(reply).error().with("another process was starting " + vm.name));
}

// What a start in the background says, as a status. Of several at a time one starts the VM, and the
// others wait for it.
Status start_one(const VmRegistry& registry, const VmRecord& vm) {
  const SessionSignals signals;
  const Deadline deadline = Deadline::after(kMostTurns);
  auto claim = claim_vm(registry, vm.id);
  while (!claim && claim.error().code() == Code::kInvalidArgument && !deadline.passed()) {
    if (SM_TRY(started_by_another(registry, vm))) return {};
    claim = claim_vm(registry, vm.id);
  }
  if (!claim) return fail(std::move(claim).error());
  auto outcome = SM_TRY(start_again(registry, *std::move(claim), /*attached=*/false, signals));
  if (outcome.error) return fail(*std::move(outcome.error));
  if (outcome.status == 0) return {};
  return fail(Code::kGone, "the start of " + vm.name + " was interrupted");
}

Result<int> start_attached(const std::string& word) {
  const auto registry = SM_TRY(VmRegistry::open());
  const VmRecord vm = SM_TRY(registry.find(word));
  const SessionSignals signals;
  auto claim = claim_vm(registry, vm.id);
  const Deadline deadline = Deadline::after(kMostTurns);
  // Somebody who renames it, for example, is done soon.
  while (!claim && claim.error().code() == Code::kInvalidArgument && !deadline.passed()) {
    const auto now = registry.find(vm.id);
    if (!now || is_kept(*now)) break;
    ::poll(nullptr, 0, 5);
    claim = claim_vm(registry, vm.id);
  }
  if (!claim) return fail(std::move(claim).error());
  const auto outcome = SM_TRY(start_again(registry, *std::move(claim), /*attached=*/true, signals));
  if (outcome.error) print_error(*outcome.error);
  return outcome.status;
}

int start(bool attached, const std::vector<std::string>& words) {
  Result<int> status = 0;
  if (attached && words.size() == 1) {
    status = start_attached(words[0]);
  } else if (attached) {
    status = fail(Code::kInvalidArgument, "-a goes with one VM", "start them one by one");
  } else {
    const auto started = each_vm(words, [](const auto& registry, const VmRecord& vm) -> Status {
      return is_live(vm.state) ? Status() : start_one(registry, vm);
    });
    if (!started) status = fail(started.error());
  }
  if (status) return *status;
  print_error(status.error());
  return kOwnFailure;
}

}  // namespace

void add_start(Command& app, Action& chosen) {
  Command* command =
      app.add_subcommand("start", "Run VMs that were created or have ended: start [OPTIONS] VM...");
  auto attached = std::make_shared<bool>(false);
  auto interactive = std::make_shared<bool>(false);
  command->add_flag("-a,--attach", *attached, "Stay attached to the command");
  command->add_flag("-i,--interactive", *interactive,
                    "The same; a VM made with -i gets the standard input");
  auto words = std::make_shared<std::vector<std::string>>();
  command->add_option("VM", *words, "Names or ids")->required();
  command->callback([&chosen, attached, interactive, words] {
    chosen = [attached, interactive, words] { return start(*attached || *interactive, *words); };
  });

  Command* again =
      app.add_subcommand("restart", "Stop VMs and start them: restart [OPTIONS] VM...");
  auto flags = std::make_shared<StopFlags>();
  add_stop_flags(*again, *flags);
  set_image_action(*again, chosen, {1, kManyVms, "the VM's name or id"}, {},
                   [flags](const auto& names) {
                     return each_vm(names, [&](const auto& registry, const VmRecord& vm) -> Status {
                       SM_TRY_STATUS(stop_vm(registry, vm, *flags));
                       return start_one(registry, vm);
                     });
                   });
}

}  // namespace sm
