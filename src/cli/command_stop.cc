// `stop`, `kill`, `wait`, `pause`, `unpause`: what a VM's keeper does for others.
#include <fmt/format.h>

#include <memory>

#include "cli/image_command.h"
#include "cli/vm_command.h"
#include "cli/vm_commands.h"
#include "runtime/keeper/keeper_client.h"
#include "runtime/keeper/signal_names.h"

namespace sm {

namespace {

// From the kill to the end of VM and keeper.
constexpr Duration kMostDies = std::chrono::seconds(30);

KeeperRequest request_of(KeeperVerb verb) {
  return {.verb = verb, .signal = 0, .seconds = std::nullopt, .text = {}};
}

Status simple(KeeperVerb verb, const std::vector<std::string>& words) {
  return each_vm(words, [verb](const auto& registry, const VmRecord& vm) -> Status {
    SM_TRY(ask_vm(registry, vm, request_of(verb)));
    return {};
  });
}

Status kill_vms(const std::string& signal, const std::vector<std::string>& words) {
  KeeperRequest request = request_of(KeeperVerb::kKill);
  request.signal = SM_TRY(parse_signal(signal));
  return each_vm(words, [&](const auto& registry, const VmRecord& vm) -> Status {
    SM_TRY(ask_vm(registry, vm, request));
    return {};
  });
}

Result<int> status_after_end(const VmRegistry& registry, const VmRecord& vm) {
  if (!is_kept(vm)) return vm.exit_code;
  auto reply = ask_vm(registry, vm, request_of(KeeperVerb::kWait), kForEver);
  if (reply) return reply->status;
  if (reply.error().code() != Code::kGone) return fail(std::move(reply).error());
  // The keeper was killed, or ended while we came.
  return SM_TRY(registry.find(vm.id)).exit_code;
}

Status wait_for(const std::vector<std::string>& words) {
  return each_vm(
      words,
      [](const auto& registry, const VmRecord& vm) -> Status {
        fmt::print("{}\n", SM_TRY(status_after_end(registry, vm)));
        return {};
      },
      /*quiet=*/true);
}

// Until the command has got all the time it has, and has been killed.
Duration most_stops(const VmRecord& vm, const KeeperRequest& request) {
  const std::uint32_t seconds = request.seconds.value_or(vm.stop_timeout_s);
  if (seconds == UINT32_MAX) return kForEver;
  return std::chrono::seconds(seconds) + kMostDies;
}

}  // namespace

Status stop_vm(const VmRegistry& registry, const VmRecord& vm, const StopFlags& flags) {
  KeeperRequest request = request_of(KeeperVerb::kStop);
  if (!flags.signal.empty()) request.signal = SM_TRY(parse_signal(flags.signal));
  if (flags.seconds) {
    request.seconds = *flags.seconds < 0 ? UINT32_MAX : static_cast<std::uint32_t>(*flags.seconds);
  }
  // The answer to `stop` is the end; that the keeper answers at all shows before.
  const bool serves = is_live(vm.state);
  auto reply = serves ? ask_vm(registry, vm, request_of(KeeperVerb::kStats)) : KeeperReply{};
  if (reply) reply = ask_vm(registry, vm, request, serves ? most_stops(vm, request) : kForEver);
  // At rest, or it ended by itself meanwhile.
  if (reply || reply.error().code() == Code::kGone) return {};
  return fail(std::move(reply).error());
}

void add_stop_flags(Command& command, StopFlags& flags) {
  command
      .add_option("-t,--time,--timeout", flags.seconds,
                  "Seconds until the VM is killed; -1: never (default: the VM's --stop-timeout)")
      ->type_name("SECONDS");
  command.add_option("-s,--signal", flags.signal, "Signal to the command (default: the VM's)")
      ->type_name("SIGNAL");
}

void add_stop(Command& app, Action& chosen) {
  Command* command =
      app.add_subcommand("stop", "End VMs, by a signal to the command first: stop [OPTIONS] VM...");
  auto flags = std::make_shared<StopFlags>();
  add_stop_flags(*command, *flags);
  set_image_action(*command, chosen, {1, kManyVms, "the VM's name or id"}, {},
                   [flags](const auto& words) {
                     return each_vm(words, [&](const auto& registry, const VmRecord& vm) {
                       return stop_vm(registry, vm, *flags);
                     });
                   });
}

void add_kill(Command& app, Action& chosen) {
  Command* command =
      app.add_subcommand("kill", "Send VMs' commands a signal: kill [OPTIONS] VM...");
  auto signal = std::make_shared<std::string>("KILL");
  command
      ->add_option("-s,--signal", *signal,
                   "Which one; KILL ends the VM when it has written out what it has")
      ->type_name("SIGNAL")
      ->capture_default_str();
  set_image_action(*command, chosen, {1, kManyVms, "the VM's name or id"}, {},
                   [signal](const auto& words) { return kill_vms(*signal, words); });
}

void add_wait(Command& app, Action& chosen) {
  Command* command =
      app.add_subcommand("wait", "Wait until VMs end and print their exit statuses: wait VM...");
  set_image_action(*command, chosen, {1, kManyVms, "the VM's name or id"}, {},
                   [](const auto& words) { return wait_for(words); });
}

void add_pause(Command& app, Action& chosen) {
  Command* command = app.add_subcommand("pause", "Let VMs stand still: pause VM...");
  set_image_action(*command, chosen, {1, kManyVms, "the VM's name or id"}, {},
                   [](const auto& words) { return simple(KeeperVerb::kPause, words); });
  Command* again = app.add_subcommand("unpause", "Let paused VMs go on: unpause VM...");
  set_image_action(*again, chosen, {1, kManyVms, "the VM's name or id"}, {},
                   [](const auto& words) { return simple(KeeperVerb::kUnpause, words); });
}

}  // namespace sm
