#include "runtime/run_image.h"

#include <unistd.h>

#include "runtime/bake/fingerprint.h"
#include "runtime/bake/snapshot_cache.h"
#include "runtime/engine_choice.h"
#include "runtime/paths.h"
#include "runtime/terminal.h"
#include "runtime/vm/baked_source.h"
#include "runtime/vm/cold_boot.h"
#include "runtime/vm_dir.h"

namespace sm {

namespace {

// What a guest is told that goes on from a snapshot, or that has just been saved in one.
agent::ResumeRequest resume_request(const std::string& hostname, bool restored) {
  agent::ResumeRequest request;
  request.generation = restored ? 1 : 0;
  request.hostname = hostname;
  request.machine_id_policy = agent::MachineIdPolicy::kKeep;
  return request;
}

// How this run's VM comes to be.
struct Start {
  std::optional<SnapshotCache> cache;  // none: boot and keep nothing
  std::string fingerprint;
  bool restore = false;  // else boot, and bake the snapshot on the way
  std::string kernel_digest, initramfs_digest;
};

std::vector<std::string> worker_arguments(const RunOptions& options, const Assets& assets,
                                          const LoadedImage& image, const Start& start,
                                          const VmDir& dir) {
  std::vector<std::string> args = {"--engine=" + options.engine, "--log-sink=" + dir.console_log(),
                                   "--vsock-exec=" + dir.exec_socket()};
  if (options.no_sandbox) args.emplace_back("--no-sandbox");
  for (const std::string& layer : image.layers) args.push_back("--virtio-blk=" + layer);
  const std::string snapshot = start.cache ? start.cache->path(start.fingerprint) : "";
  if (start.restore) {
    args.push_back("--restore-from=" + snapshot);
    return args;
  }
  args.push_back("--kernel=" + assets.kernel);
  args.push_back("--initramfs=" + assets.initramfs);
  args.push_back("--memory=" + std::to_string(options.memory_bytes >> 20));
  args.push_back("--vcpus=" + std::to_string(options.cpus));
  if (start.cache) args.push_back("--snapshot-on-pre-exec");
  return args;
}

SnapshotTarget bake_target(const RunOptions& options, const Start& start) {
  return {.path = start.cache->path(start.fingerprint),
          .memory_bytes = options.memory_bytes,
          .kernel_digest = start.kernel_digest,
          .initramfs_digest = start.initramfs_digest,
          .annotations = {{"image", options.image}, {"fingerprint", start.fingerprint}}};
}

std::string file_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// Decides between a restore and a boot. Whatever stands in the way of a snapshot is no reason not
// to run: then the VM just boots.
Start plan_start(const RunOptions& options, const Assets& assets, const LoadedImage& image,
                 const std::string& cache) {
  const auto plan = [&]() -> Result<Start> {
    Start start{.cache = SM_TRY(SnapshotCache::open(cache + "/snapshots"))};
    start.kernel_digest = SM_TRY(cached_digest(assets.kernel, cache));
    start.initramfs_digest = SM_TRY(cached_digest(assets.initramfs, cache));
    BakeInputs inputs{.kernel_digest = start.kernel_digest,
                      .initramfs_digest = start.initramfs_digest,
                      .layers = {},
                      .memory_bytes = options.memory_bytes,
                      .vcpus = options.cpus,
                      .engine = options.engine,
                      .guest_config = guest_config(kBakedHostname)};
    for (const std::string& layer : image.layers) inputs.layers.push_back(file_name(layer));
    start.fingerprint = fingerprint(inputs);
    start.restore = start.cache->find(start.fingerprint);
    if (!start.restore) start.cache->make_room();
    return start;
  };
  if (!options.snapshot) return {};
  return plan().value_or(Start{});
}

}  // namespace

Result<RunOutcome> run_image(const RunOptions& given, const std::vector<std::string>& file_env,
                             const HostEnv& host, const ImageObservers& observers) {
  const SessionSignals signals;
  const Assets assets = SM_TRY(find_assets());
  const std::string cache = SM_TRY(cache_dir());
  const std::string id = SM_TRY(random_id());
  const std::string hostname = given.hostname.empty() ? id : given.hostname;
  SM_TRY_STATUS(check_hostname(hostname));
  RunOptions options = given;
  options.engine = SM_TRY(resolve_engine(given.engine, assets, cache));

  const ImageRequest wanted{options.image, options.pull, options.platform};
  const LoadedImage image =
      SM_TRY(load_image(wanted, SM_TRY(ImageFolders::find()), signals, observers));
  if (image.interrupted_by != 0) return RunOutcome{128 + image.interrupted_by, std::nullopt};

  SessionConfig session;
  session.request = SM_TRY(make_request(options, image.config, file_env, host));
  if (options.tty)
    session.request.window = window_size(STDOUT_FILENO).value_or(agent::WindowSize{});
  Start start = plan_start(options, assets, image, cache);
  for (;;) {
    const VmDir dir = SM_TRY(VmDir::create(SM_TRY(runtime_dir()), id, options.name));
    session.exec_socket = dir.exec_socket();
    session.console_log = dir.console_log();
    session.worker = {.program = assets.worker,
                      .arguments = worker_arguments(options, assets, image, start, dir),
                      .guest_config = guest_config(start.cache ? kBakedHostname : hostname),
                      .log_file = dir.worker_log()};
    session.bake.reset();
    if (start.cache && !start.restore) session.bake = bake_target(options, start);
    session.resume.reset();
    if (start.cache) session.resume = resume_request(hostname, start.restore);
    RunOutcome outcome = run_session(session, signals);
    if (!outcome.not_restored || !start.restore) return outcome;
    // A snapshot that is damaged, or of another machine: it goes, and a new one is made.
    start.cache->remove(start.fingerprint);
    start.restore = false;
  }
}

}  // namespace sm
