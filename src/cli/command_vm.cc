// All commands on VMs, and `vm` (Docker's `container`), below which they are again.
#include <memory>

#include "base/json.h"
#include "cli/vm_command.h"
#include "cli/vm_commands.h"

namespace sm {

namespace {

void add_common(Command& app, Action& chosen) {
  add_logs(app, chosen);
  add_exec(app, chosen);
  add_attach(app, chosen);
  add_start(app, chosen);
  add_stop(app, chosen);
  add_kill(app, chosen);
  add_wait(app, chosen);
  add_pause(app, chosen);
  add_rm(app, chosen);
  add_rename(app, chosen);
  add_port(app, chosen);
  add_cp(app, chosen);
  add_stats(app, chosen);
  add_top(app, chosen);
}

void add_group(Command& app, Action& chosen, const char* name, const char* help) {
  Command* group = app.add_subcommand(name, help);
  group->require_subcommand(1);
  add_run(*group, chosen);
  add_create(*group, chosen);
  add_ps(*group, chosen, "ls");
  add_ps(*group, chosen, "ps");
  add_inspect(*group, chosen);
  add_prune(*group, chosen);
  add_common(*group, chosen);
}

}  // namespace

void add_vm_commands(Command& app, Action& chosen) {
  add_ps(app, chosen, "ps");
  add_common(app, chosen);
  add_events(app, chosen);
  add_agent(app, chosen);
  add_group(app, chosen, "vm", "Work with VMs");
  add_group(app, chosen, "container", "The same under Docker's name");
}

namespace {

// The range that the host's port is to be of.
std::string choice_text(const PortBinding& port) {
  return port.last == 0 ? "" : std::to_string(port.first) + "-" + std::to_string(port.last);
}

}  // namespace

std::string describe_vm(const VmRecord& vm, std::uint64_t disk_bytes) {
  using nlohmann::json;
  json ports = json::object();     // that lead to it now
  json bindings = json::object();  // that were asked for
  for (const auto& port : vm.ports) {
    const std::string guest = std::to_string(port.guest) + "/tcp";
    const std::string host = std::to_string(port.host);
    if (is_live(vm.state)) ports[guest].push_back({{"HostIp", port.ip}, {"HostPort", host}});
    bindings[guest].push_back(
        {{"HostIp", port.ip}, {"HostPort", port.any ? choice_text(port) : host}});
  }
  const auto time = [](std::int64_t ns) { return ns == 0 ? std::string() : rfc3339(ns); };
  const json state = {{"Status", vm_state_text(vm.state)},
                      {"Running", vm.state == VmState::kRunning || vm.state == VmState::kPaused},
                      {"Paused", vm.state == VmState::kPaused},
                      {"Restarting", vm.state == VmState::kRestarting},
                      {"Lost", vm.lost},
                      {"Pid", vm.worker_pid},
                      {"KeeperPid", vm.keeper_pid},
                      {"ExitCode", vm.exit_code},
                      {"Error", vm.error},
                      {"StartedAt", time(vm.started_ns)},
                      {"FinishedAt", time(vm.finished_ns)},
                      {"Health", vm.health.empty() ? json()
                                                   : json{{"Status", vm.health},
                                                          {"FailingStreak", vm.health_failures}}}};
  const json config = {{"Image", vm.image},
                       {"Cmd", vm.command},
                       {"Labels", vm.labels},
                       {"Tty", vm.tty},
                       {"OpenStdin", vm.interactive},
                       {"StopSignal", vm.stop_signal},
                       {"StopTimeout", vm.stop_timeout_s}};
  const json host = {
      {"AutoRemove", vm.auto_remove},
      {"PortBindings", std::move(bindings)},
      {"RestartPolicy",
       {{"Name", restart_text({vm.restart.kind, 0})}, {"MaximumRetryCount", vm.restart.most}}},
      {"Memory", vm.memory_bytes},
      {"Cpus", vm.cpus},
      {"Engine", vm.engine}};
  const json out = {{"Id", vm.id},
                    {"Name", vm.name},
                    {"Created", time(vm.created_ns)},
                    {"Image", vm.image_digest},
                    {"State", state},
                    {"SizeRw", disk_bytes == 0 ? json() : json(disk_bytes)},
                    {"RestartCount", vm.restarts},
                    {"Config", config},
                    {"HostConfig", host},
                    {"NetworkSettings", {{"Ports", std::move(ports)}}}};
  return dump_json(out);
}

}  // namespace sm
