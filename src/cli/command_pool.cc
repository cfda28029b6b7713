// `pool`: what a warm pool of a snapshot's or an image's VMs costs here: acquire, exec, release.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/run_flags.h"
#include "runtime/bake/pool_trial.h"

namespace sm {

namespace {

struct Typed {
  PoolTrial trial;
  std::string memory = "512m";
  std::string format = "table";
};

nlohmann::json figures(std::vector<double> ms) {
  std::sort(ms.begin(), ms.end());
  const auto at = [&ms](double part) {
    return ms.empty() ? 0.0
                      : ms[static_cast<std::size_t>(part * static_cast<double>(ms.size() - 1))];
  };
  return {{"min", at(0)}, {"median", at(0.5)}, {"p95", at(0.95)}, {"max", at(1)}};
}

Result<int> execute(Typed& typed, std::vector<std::string> words) {
  SM_TRY_STATUS(take_subject(std::move(words), {"pool", "SNAPSHOT|TAG|IMAGE", "snapshot or image"},
                             typed.trial.run));
  auto env = SM_TRY(read_env_files(typed.trial.run.env_files));
  auto& given = typed.trial.run.env;
  given.insert(given.begin(), env.begin(), env.end());
  typed.trial.run.memory_bytes = SM_TRY(parse_memory_size(typed.memory));
  const PoolFigures result = SM_TRY(run_pool_trial(typed.trial, variable_of_host));
  // Ended by the user: what there is by then, and the shell's status for the signal.
  const int status = result.interrupted_by == 0 ? 0 : 128 + result.interrupted_by;
  const nlohmann::json json = {{"vms", typed.trial.count},
                               {"cycles", result.acquire_ms.size()},
                               {"fill_ms", result.fill_ms},
                               {"acquire_ms", figures(result.acquire_ms)},
                               {"exec_ms", figures(result.exec_ms)},
                               {"release_ms", figures(result.release_ms)},
                               {"warm", result.warm},
                               {"failed", result.failed}};
  if (typed.format == "json") {
    fmt::print("{}\n", dump_json(json));
    return status;
  }
  fmt::print("{} VMs ready after {:.1f} ms; {} cycles, {} of them from a VM that was ready\n",
             typed.trial.count, result.fill_ms, result.acquire_ms.size(), result.warm);
  fmt::print("{:<10}{:>10}{:>10}{:>10}{:>10}\n", "ms", "min", "median", "p95", "max");
  for (const char* what : {"acquire", "exec", "release"}) {
    const auto& f = json[std::string(what) + "_ms"];
    fmt::print("{:<10}{:>10.2f}{:>10.2f}{:>10.2f}{:>10.2f}\n", what, f["min"].get<double>(),
               f["median"].get<double>(), f["p95"].get<double>(), f["max"].get<double>());
  }
  return status;
}

}  // namespace

void add_pool(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      "pool", "Measure a pool of warm VMs: pool [OPTIONS] SNAPSHOT|TAG|IMAGE [COMMAND...]");
  auto typed = std::make_shared<Typed>();
  command->add_option("--count", typed->trial.count, "VMs kept ready")
      ->range(1u, 256u)
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--cycles", typed->trial.cycles, "Times that one is taken, used, given back")
      ->range(1u, 100'000u)
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--format", typed->format, "table or json")
      ->choices({"table", "json"})
      ->type_name("FORMAT");
  command->add_option("-m,--memory", typed->memory, "Memory of the VMs of an image")
      ->type_name("SIZE")
      ->capture_default_str();
  add_command_flags(*command, typed->trial.run);
  set_run_action(*command, chosen,
                 [typed](auto words) { return execute(*typed, std::move(words)); });
}

}  // namespace sm
