#include "runtime/run_snapshot.h"

#include <unistd.h>

#include <utility>

#include "runtime/bake/saved_machine.h"
#include "runtime/bake/tag_store.h"
#include "runtime/engine_choice.h"
#include "runtime/paths.h"
#include "runtime/terminal.h"
#include "runtime/vm/snapshot_source.h"

namespace sm {

namespace {

// A command that runs already has what it was started with.
Status check_streams(const RunOptions& options, const SavedImage& image) {
  constexpr const char* kRemedy = "leave it out, or name a command to run beside it";
  if (options.interactive && !image.input) {
    return fail(Code::kInvalidArgument, "-i, but the snapshot's command has no open input",
                kRemedy);
  }
  if (options.tty && !image.terminal) {
    return fail(Code::kInvalidArgument, "-t, but the snapshot's command has no terminal", kRemedy);
  }
  return {};
}

}  // namespace

Result<RunOutcome> run_snapshot(const RunOptions& options, const std::vector<std::string>& file_env,
                                const std::vector<std::string>& secrets, const HostEnv& host) {
  const SessionSignals signals;
  const Assets assets = SM_TRY(find_assets());
  const std::string cache = SM_TRY(cache_dir());
  const std::string path = SM_TRY(find_saved(SM_TRY(TagStore::open(cache)), options.image));
  const SavedMachine machine =
      SM_TRY(open_saved_machine(path, SM_TRY(ImageFolders::find()).layers));
  BootConfig boot;
  boot.assets = assets;
  boot.layers = machine.layers;
  boot.engine = SM_TRY(resolve_engine(options.engine, assets, cache));
  boot.hostname = options.hostname;
  boot.secrets = secrets;
  if (!boot.hostname.empty()) SM_TRY_STATUS(check_hostname(boot.hostname));

  SessionConfig session;
  session.only_wait = options.command.empty() && machine.image.workload;
  if (options.stop_timeout_s) {
    if (!session.only_wait) {
      return fail(Code::kInvalidArgument,
                  "a stop timeout, but signals go to the command, which decides what they mean",
                  "leave out --stop-timeout");
    }
    session.stop_timeout = std::chrono::seconds(*options.stop_timeout_s);
  }
  if (session.only_wait) {
    const bool told = !options.env.empty() || !file_env.empty() || !options.workdir.empty() ||
                      !options.user.empty();
    if (told) {
      return fail(Code::kInvalidArgument,
                  "options of a command, but the snapshot's own command runs already",
                  "name a command to run beside it");
    }
    SM_TRY_STATUS(check_streams(options, machine.image));
    session.request.keep_stdin = options.interactive;
    session.request.tty = options.tty;
  } else {
    RunOptions run = options;
    // Beside a workload it is a command as of an exec.
    if (machine.image.workload) run.entrypoint = "";
    session.request = SM_TRY(make_request(run, machine.image.config, file_env, host));
    // The machine's one workload may run in it; an exec ends with its connection.
    session.request.main = !machine.image.workload;
  }
  if (options.tty) {
    session.request.window = window_size(STDOUT_FILENO).value_or(agent::WindowSize{});
  }
  const std::string id = SM_TRY(random_id());
  const VmDir dir = SM_TRY(VmDir::create(SM_TRY(runtime_dir()), id));
  VmLaunch launch = SM_TRY(SnapshotSource(boot, machine).launch(dir, id));
  session.exec_socket = dir.exec_socket();
  session.console_log = dir.console_log();
  session.worker = std::move(launch.worker);
  session.resume = std::move(launch.resume);
  return run_session(session, signals);
}

}  // namespace sm
