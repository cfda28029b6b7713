// What the commands on VMs have in common.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/commands.h"
#include "runtime/keeper/vm_registry.h"

namespace sm {

inline constexpr std::size_t kManyVms = 10'000;

using VmAction = std::function<Status(const VmRegistry& registry, const VmRecord& vm)>;

// Each VM by itself: one that fails does not keep the others. Prints the word of each that went
// well, unless `quiet`.
Status each_vm(const std::vector<std::string>& words, const VmAction& action, bool quiet = false);

// kInvalidArgument unless programs can run in it now.
Status check_running(const VmRecord& vm);

// "Up 3 minutes (Paused)", "Exited (0) 2 hours ago".
std::string vm_status_text(const VmRecord& vm);
// "3 minutes", without "ago".
std::string human_span(std::int64_t ns);

// A command with options in front of the words of a program, as `run` has them: splits them off.
// Prints the error of the action; its value is the exit status.
void set_program_action(Command& command, Action& chosen,
                        std::function<Result<int>(std::vector<std::string> words)> action);

}  // namespace sm
