// `exec` and `attach`: programs of a VM that runs.
#include <unistd.h>

#include <memory>

#include "base/bytes.h"
#include "base/file.h"
#include "cli/image_command.h"
#include "cli/output.h"
#include "cli/run_flags.h"
#include "cli/vm_command.h"
#include "cli/vm_commands.h"
#include "runtime/keeper/keeper_client.h"
#include "runtime/remote_session.h"
#include "runtime/run_options.h"
#include "runtime/terminal.h"
#include "runtime/unix_connect.h"

namespace sm {

namespace {

struct Typed {
  bool interactive = false;
  bool tty = false;
  bool detach = false;
  std::vector<std::string> env;
  std::vector<std::string> env_files;
  std::string workdir;
  std::string user;
};

Result<agent::ExecRequest> request_of(const Typed& typed, std::vector<std::string> command) {
  agent::ExecRequest out;
  out.tty = typed.tty;
  out.keep_stdin = typed.interactive && !typed.detach;
  out.argv = std::move(command);
  out.cwd = typed.workdir;
  if (!out.cwd.empty() && out.cwd[0] != '/') {
    return fail(Code::kInvalidArgument, "the working directory '" + out.cwd + "' is not absolute",
                "use -w with a path that starts with /");
  }
  out.user = typed.user;
  out.env = SM_TRY(read_env_files(typed.env_files));
  for (const std::string& entry : typed.env) {
    if (entry.find('=') != std::string::npos) {
      out.env.push_back(entry);
    } else if (const auto value = variable_of_host(entry)) {
      out.env.push_back(entry + "=" + *value);
    }
  }
  return out;
}

int finish(SessionOutcome outcome) {
  if (outcome.error) print_error(*outcome.error);
  return outcome.status;
}

Result<int> exec(const Typed& typed, std::vector<std::string> words) {
  const auto registry = SM_TRY(VmRegistry::open());
  const VmRecord vm = SM_TRY(registry.find(words[0]));
  words.erase(words.begin());
  if (words.empty()) {
    return fail(Code::kInvalidArgument, "no command given",
                "name one: supermachine exec VM COMMAND...");
  }
  SM_TRY_STATUS(check_running(vm));
  agent::ExecRequest request = SM_TRY(request_of(typed, std::move(words)));
  if (typed.detach) {
    const auto frame = agent::encode_exec(request);
    const KeeperReply reply = SM_TRY(ask_keeper(vm, {.verb = KeeperVerb::kExec,
                                                     .signal = 0,
                                                     .seconds = std::nullopt,
                                                     .text = std::string(as_text(frame))}));
    return finish({reply.status, reply.error});
  }
  if (typed.tty && typed.interactive && ::isatty(STDIN_FILENO) != 1) {
    return fail(Code::kInvalidArgument, "the standard input is no terminal", "leave out -t, or -i");
  }
  if (typed.tty) request.window = window_size(STDOUT_FILENO).value_or(agent::WindowSize{});
  const SessionSignals signals;
  UniqueFd socket = SM_TRY(connect_unix(vm.exec_socket));
  return finish(run_remote(std::move(socket), request, {.input = request.keep_stdin}, signals));
}

struct AttachFlags {
  bool no_stdin = false;
  bool proxy = true;
};

Result<int> attach(const AttachFlags& flags, const std::vector<std::string>& words) {
  if (words.size() != 1) return fail(Code::kInvalidArgument, "attach goes with one VM");
  const auto registry = SM_TRY(VmRegistry::open());
  const VmRecord vm = SM_TRY(registry.find(words[0]));
  SM_TRY_STATUS(check_running(vm));
  const SessionSignals signals;
  UniqueFd socket = SM_TRY(attach_to_keeper(vm));
  agent::ExecRequest request;
  request.argv = {"attach"};
  request.tty = vm.tty;
  RemoteOptions options;
  options.input = vm.interactive && !flags.no_stdin;
  options.signals = flags.proxy;
  options.detach_keys = vm.tty;
  return finish(run_remote(std::move(socket), request, options, signals));
}

}  // namespace

void add_exec(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      "exec", "Run a further command in a VM that runs: exec [OPTIONS] VM COMMAND...");
  auto typed = std::make_shared<Typed>();
  command->add_flag("-i,--interactive", typed->interactive, "Keep standard input open");
  command->add_flag("-t,--tty", typed->tty, "Give the command a terminal");
  command->add_flag("-d,--detach", typed->detach, "Do not wait for the command");
  add_env_flags(*command, typed->env, typed->env_files);
  command->add_option("-w,--workdir", typed->workdir, "Folder to start in")->type_name("DIR");
  command->add_option("-u,--user", typed->user, "User (and group) to run as")
      ->type_name("NAME|UID[:GROUP|GID]");
  command->footer("The exit status is the command's, as that of `run`.");
  set_program_action(*command, chosen,
                     [typed](auto words) { return exec(*typed, std::move(words)); });
}

void add_attach(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      "attach", "Look at the command of a VM that runs, as `run` does: attach [OPTIONS] VM");
  auto flags = std::make_shared<AttachFlags>();
  command->add_flag("--no-stdin", flags->no_stdin, "Do not hand on the standard input");
  command->add_flag("--sig-proxy", flags->proxy,
                    "Hand signals on to the command; --sig-proxy=false: they end this only");
  command->footer(
      "Ctrl-P Ctrl-Q leaves a VM with a terminal alone again. Signals go to the command.");
  set_program_action(*command, chosen,
                     [flags](const auto& words) { return attach(*flags, words); });
}

}  // namespace sm
