#include "runtime/run_image.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "runtime/paths.h"
#include "runtime/terminal.h"
#include "runtime/vm_dir.h"

namespace sm {

namespace {

std::string guest_config(const std::string& hostname) {
  return nlohmann::json{{"hostname", hostname}}.dump();
}

Status check_hostname(const std::string& name) {
  const bool ok = !name.empty() && name.size() <= 64 && name.front() != '-' &&
                  name.find_first_not_of(
                      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                      "0123456789.-_") == std::string::npos;
  if (ok) return {};
  return fail(Code::kInvalidArgument, "'" + name + "' cannot be a host name",
              "use up to 64 letters, digits, '.', '-' and '_'");
}

std::vector<std::string> worker_arguments(const RunOptions& options, const Assets& assets,
                                          const LoadedImage& image, const VmDir& dir) {
  std::vector<std::string> args = {"--kernel=" + assets.kernel,
                                   "--initramfs=" + assets.initramfs,
                                   "--memory=" + std::to_string(options.memory_bytes >> 20),
                                   "--vcpus=" + std::to_string(options.cpus),
                                   "--engine=" + options.engine,
                                   "--log-sink=" + dir.console_log(),
                                   "--vsock-exec=" + dir.exec_socket()};
  if (options.no_sandbox) args.emplace_back("--no-sandbox");
  for (const std::string& layer : image.layers) args.push_back("--virtio-blk=" + layer);
  return args;
}

}  // namespace

Result<RunOutcome> run_image(const RunOptions& options, const std::vector<std::string>& file_env,
                             const HostEnv& host, const LayerObserver& progress) {
  const SessionSignals signals;
  const Assets assets = SM_TRY(find_assets());
  const std::string id = SM_TRY(random_id());
  const std::string hostname = options.hostname.empty() ? id : options.hostname;
  SM_TRY_STATUS(check_hostname(hostname));

  const LoadedImage image =
      SM_TRY(load_image(options.image, SM_TRY(cache_dir()), signals, progress));
  if (image.interrupted_by != 0) return RunOutcome{128 + image.interrupted_by, std::nullopt};

  SessionConfig session;
  session.request = SM_TRY(make_request(options, image.config, file_env, host));
  if (options.tty)
    session.request.window = window_size(STDOUT_FILENO).value_or(agent::WindowSize{});
  const VmDir dir = SM_TRY(VmDir::create(SM_TRY(runtime_dir()), id, options.name));
  session.exec_socket = dir.exec_socket();
  session.console_log = dir.console_log();
  session.worker = {.program = assets.worker,
                    .arguments = worker_arguments(options, assets, image, dir),
                    .guest_config = guest_config(hostname),
                    .log_file = dir.worker_log()};
  return run_session(session, signals);
}

}  // namespace sm
