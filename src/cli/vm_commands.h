// The commands on VMs; see commands.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "runtime/keeper/vm_registry.h"

namespace sm {

// All of them, at the top and below `vm` and `container`.
void add_vm_commands(Command& app, Action& chosen);

void add_ps(Command& app, Action& chosen, const std::string& verb);
void add_logs(Command& app, Action& chosen);
void add_exec(Command& app, Action& chosen);
void add_attach(Command& app, Action& chosen);
void add_stop(Command& app, Action& chosen);
void add_kill(Command& app, Action& chosen);
void add_wait(Command& app, Action& chosen);
void add_pause(Command& app, Action& chosen);  // and unpause
void add_start(Command& app, Action& chosen);  // and restart
void add_rm(Command& app, Action& chosen);
void add_rename(Command& app, Action& chosen);
void add_prune(Command& app, Action& chosen);
void add_port(Command& app, Action& chosen);
void add_cp(Command& app, Action& chosen);
void add_stats(Command& app, Action& chosen);
void add_top(Command& app, Action& chosen);
void add_events(Command& app, Action& chosen);

void add_agent(Command& app, Action& chosen);
inline constexpr const char* kAgentCommand = "__agent";
// Runs one of the agent's own programs (guest/agent/own_program.h) with our standard streams; the
// status is as that of `exec`. Main thread only.
Result<int> run_agent_program(const VmRecord& vm, std::vector<std::string> program, bool input);

// `stop` and `restart`.
struct StopFlags {
  std::optional<int> seconds;
  std::string signal;
};
void add_stop_flags(Command& command, StopFlags& flags);
// Of one that has ended nothing is asked.
Status stop_vm(const VmRegistry& registry, const VmRecord& vm, const StopFlags& flags);

// All that is known of a VM, as JSON; printed by `inspect` (command_inspect.cc).
std::string describe_vm(const VmRecord& vm, std::uint64_t disk_bytes);

}  // namespace sm
