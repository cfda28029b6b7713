// The hidden `__agent`: programs that the agent itself has, with our streams. Other commands are
// made of it.
#include <utility>

#include "cli/output.h"
#include "cli/vm_command.h"
#include "cli/vm_commands.h"
#include "runtime/remote_session.h"
#include "runtime/unix_connect.h"

namespace sm {

Result<int> run_agent_program(const VmRecord& vm, std::vector<std::string> program, bool input) {
  SM_TRY_STATUS(check_running(vm));
  agent::ExecRequest request;
  request.own_program = true;
  request.keep_stdin = input;
  request.argv = std::move(program);
  const SessionSignals signals;
  UniqueFd socket = SM_TRY(connect_unix(vm.exec_socket));
  auto outcome = run_remote(std::move(socket), request, {.input = input}, signals);
  if (outcome.error) print_error(*outcome.error);
  return outcome.status;
}

void add_agent(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      kAgentCommand, "Run a program of the agent's own in a VM: __agent in|out VM PROGRAM...");
  command->hide();
  set_program_action(*command, chosen, [](std::vector<std::string> words) -> Result<int> {
    if (words.size() < 3) return fail(Code::kInvalidArgument, "no VM or program given");
    const auto registry = SM_TRY(VmRegistry::open());
    const VmRecord vm = SM_TRY(registry.find(words[1]));
    return run_agent_program(vm, {words.begin() + 2, words.end()}, words[0] == "in");
  });
}

}  // namespace sm
