#include "runtime/run_image.h"

#include <unistd.h>

#include <memory>
#include <utility>

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

BootConfig boot_config(const RunOptions& options, const Assets& assets, const LoadedImage& image) {
  return {.assets = assets,
          .layers = image.layers,
          .memory_mib = options.memory_bytes >> 20,
          .vcpus = options.cpus,
          .engine = options.engine,
          .hostname = options.hostname,
          .no_sandbox = options.no_sandbox};
}

// Where this run's VM comes from. Whatever stands in the way of a snapshot is no reason not to run:
// then the VM just boots.
std::unique_ptr<VmSource> source_for(const RunOptions& options, const BootConfig& boot,
                                     const std::string& cache) {
  const auto baked = [&]() -> Result<std::unique_ptr<VmSource>> {
    return std::make_unique<BakedSource>(boot, SM_TRY(SnapshotCache::open(cache + "/snapshots")),
                                         SM_TRY(cached_digest(boot.assets.kernel, cache)),
                                         SM_TRY(cached_digest(boot.assets.initramfs, cache)),
                                         options.image);
  };
  if (options.snapshot) {
    if (auto source = baked()) return *std::move(source);
  }
  return std::make_unique<ColdBoot>(boot);
}

}  // namespace

Result<PreparedRun> prepare_run(const RunOptions& given, const std::vector<std::string>& file_env,
                                const HostEnv& host, const SessionSignals& signals,
                                const ImageObservers& observers) {
  PreparedRun out;
  out.assets = SM_TRY(find_assets());
  out.cache = SM_TRY(cache_dir());
  if (!given.hostname.empty()) SM_TRY_STATUS(check_hostname(given.hostname));
  out.options = given;
  out.options.engine = SM_TRY(resolve_engine(given.engine, out.assets, out.cache));
  const ImageRequest wanted{given.image, given.pull, given.platform};
  out.image = SM_TRY(load_image(wanted, SM_TRY(ImageFolders::find()), signals, observers));
  if (out.image.interrupted_by != 0) return out;
  out.request = SM_TRY(make_request(out.options, out.image.config, file_env, host));
  out.health = SM_TRY(resolve_health(out.options.health, out.image.config));
  return out;
}

Result<std::string> vm_folder(const std::string& id) {
  return VmDir::path_of(SM_TRY(runtime_dir()), id);
}

Result<RunOutcome> run_prepared(const PreparedRun& run, const RunPlace& place,
                                const SessionSignals& signals) {
  SessionConfig session;
  session.request = run.request;
  session.attached = place.attached;
  session.guardian = place.guardian;
  if (run.request.tty && place.attached)
    session.request.window = window_size(STDOUT_FILENO).value_or(agent::WindowSize{});
  BootConfig boot = boot_config(run.options, run.assets, run.image);
  if (!place.root_disk.empty()) boot.root_disk = SM_TRY(open_root_disk(place.root_disk));
  const auto source = source_for(run.options, boot, run.cache);
  for (;;) {
    const VmDir dir = SM_TRY(VmDir::create(SM_TRY(runtime_dir()), place.id));
    VmLaunch launch = SM_TRY(source->launch(dir, place.id));
    session.exec_socket = dir.exec_socket();
    session.console_log = dir.console_log();
    session.worker = std::move(launch.worker);
    session.bake = std::move(launch.bake);
    session.kernel_bake = std::move(launch.kernel_bake);
    session.resume = std::move(launch.resume);
    RunOutcome outcome = run_session(session, signals);
    if (!outcome.not_restored || launch.kept.empty()) return outcome;
    // A snapshot that is damaged, or of another machine: it goes, and a new one is made.
    source->on_restore_failed(launch.kept);
  }
}

}  // namespace sm
