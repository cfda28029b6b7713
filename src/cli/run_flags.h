// What the commands share that run a program in a guest (run, exec, bake, restore, pool): its
// options as they were typed, and what comes behind them.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "runtime/run_options.h"

namespace sm {

// A variable of this process's environment: HostEnv.
std::optional<std::string> variable_of_host(const std::string& name);

// -e, --env-file.
void add_env_flags(Command& command, std::vector<std::string>& env,
                   std::vector<std::string>& env_files);
// Environment, folder and user of the program, and the engine.
void add_command_flags(Command& command, RunOptions& options);

// The entries of all files, in order. At most 1 MiB each; kLimit, kNotFound, kInvalidArgument.
Result<std::vector<std::string>> read_env_files(const std::vector<std::string>& paths);

struct Subject {
  const char* command;      // "run"
  const char* placeholder;  // "IMAGE", for the usage
  const char* what;         // "image"
};
// The first of the words behind the options is what the command works on (options.image), the rest
// a program of the guest (options.command). kInvalidArgument.
Status take_subject(std::vector<std::string> words, const Subject& subject, RunOptions& options);

// Options end at the first other word; `action` gets all behind them and gives the exit status. Its
// error is printed, with 125.
void set_run_action(Command& command, Action& chosen,
                    std::function<Result<int>(std::vector<std::string> words)> action);

}  // namespace sm
