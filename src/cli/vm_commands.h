// The commands on VMs; see commands.h.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "runtime/keeper/vm_registry.h"

namespace sm {

// All of them, at the top and below `vm` and `container`.
void add_vm_commands(CLI::App& app, Action& chosen);

void add_ps(CLI::App& app, Action& chosen, const std::string& verb);
void add_logs(CLI::App& app, Action& chosen);
void add_exec(CLI::App& app, Action& chosen);
void add_attach(CLI::App& app, Action& chosen);
void add_stop(CLI::App& app, Action& chosen);
void add_kill(CLI::App& app, Action& chosen);
void add_wait(CLI::App& app, Action& chosen);
void add_pause(CLI::App& app, Action& chosen);  // and unpause
void add_start(CLI::App& app, Action& chosen);  // and restart
void add_rm(CLI::App& app, Action& chosen);
void add_rename(CLI::App& app, Action& chosen);
void add_prune(CLI::App& app, Action& chosen);
void add_port(CLI::App& app, Action& chosen);
void add_cp(CLI::App& app, Action& chosen);
void add_stats(CLI::App& app, Action& chosen);
void add_top(CLI::App& app, Action& chosen);
void add_events(CLI::App& app, Action& chosen);

// `stop` and `restart`.
struct StopFlags {
  std::optional<int> seconds;
  std::string signal;
};
void add_stop_flags(CLI::App& command, StopFlags& flags);
// Of one that has ended nothing is asked.
Status stop_vm(const VmRegistry& registry, const VmRecord& vm, const StopFlags& flags);

// All that is known of a VM, as JSON; printed by `inspect` (command_inspect.cc).
std::string describe_vm(const VmRecord& vm);

}  // namespace sm
