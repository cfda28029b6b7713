// `restore`: a VM that goes on from a snapshot, and a command in it.
#include <memory>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/run_flags.h"
#include "runtime/run_snapshot.h"

namespace sm {

namespace {

struct Typed {
  RunOptions run;
  std::vector<std::string> secret_files;
};

Result<int> execute(Typed& typed, std::vector<std::string> words) {
  RunOptions& o = typed.run;
  SM_TRY_STATUS(take_subject(std::move(words), {"restore", "SNAPSHOT|TAG", "snapshot"}, o));
  const RunOutcome outcome =
      SM_TRY(run_snapshot(o, SM_TRY(read_env_files(o.env_files)),
                          SM_TRY(read_env_files(typed.secret_files)), variable_of_host));
  if (outcome.error) print_error(*outcome.error);
  return outcome.status;
}

}  // namespace

void add_restore(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      "restore",
      "Run a command in a VM of a snapshot: restore [OPTIONS] SNAPSHOT|TAG [COMMAND...]");
  const auto typed = std::make_shared<Typed>();
  RunOptions* options = &typed->run;
  command->set_help_flag("--help", "Print this help and exit");
  command->footer(
      "SNAPSHOT is a folder, with a slash in its name. Without COMMAND: goes on with what runs in\n"
      "it, which gets the signals and, with -i, standard input, and waits for its end; else runs\n"
      "the image's command. The exit status is as of `run`.");
  command->add_flag("-i,--interactive", options->interactive, "Keep standard input open");
  command->add_flag(
      "-t,--tty", options->tty,
      "Give the command a terminal; without COMMAND: connect this one to the saved command's");
  command->add_option("-h,--hostname", options->hostname, "Host name in the VM (default: its id)")
      ->type_name("HOST");
  command
      ->add_option(
          "--secret-file", typed->secret_files,
          "Lines NAME=value for all programs of the VM, told to its guest alone; repeatable")
      ->type_name("FILE");
  command
      ->add_option("--stop-timeout", options->stop_timeout_s,
                   "Without COMMAND: seconds from a signal to the end of the VM (default: 10)")
      ->range(0u, 86'400u)
      ->type_name("SECONDS");
  add_command_flags(*command, *options);
  set_run_action(*command, chosen,
                 [typed](auto words) { return execute(*typed, std::move(words)); });
}

}  // namespace sm
