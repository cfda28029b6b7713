#include "runtime/bake/pool_trial.h"

#include <chrono>
#include <future>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/event_loop.h"
#include "runtime/bake/fingerprint.h"
#include "runtime/bake/saved_machine.h"
#include "runtime/bake/tag_store.h"
#include "runtime/bake/vm_host.h"
#include "runtime/client/exec_client.h"
#include "runtime/engine_choice.h"
#include "runtime/image_layers.h"
#include "runtime/paths.h"
#include "runtime/session_signals.h"
#include "runtime/vm/baked_source.h"
#include "runtime/vm/snapshot_source.h"

namespace sm {

namespace {

double since(TimePoint start) {
  return std::chrono::duration<double, std::milli>(now() - start).count();
}

struct Subject {
  std::shared_ptr<VmSource> source;
  agent::ExecRequest request;
  std::vector<UniqueFd> in_use;
};

Result<Subject> of_snapshot(const std::string& path, const RunOptions& run, BootConfig boot,
                            const HostEnv& host) {
  SavedMachine machine = SM_TRY(open_saved_machine(path, SM_TRY(ImageFolders::find()).layers));
  boot.layers = machine.layers;
  Subject out;
  out.request = SM_TRY(make_request(run, machine.image.config, {}, host));
  out.source = std::make_shared<SnapshotSource>(std::move(boot), machine);
  out.in_use = std::move(machine.in_use);
  return out;
}

Result<Subject> of_image(const RunOptions& run, BootConfig boot, const std::string& cache,
                         const HostEnv& host, const std::stop_token& stop) {
  LoadedImage image = SM_TRY(
      prepare_image({run.image, run.pull, run.platform}, SM_TRY(ImageFolders::find()), {}, stop));
  boot.layers = image.layers;
  boot.memory_mib = run.memory_bytes >> 20;
  const std::string kernel = SM_TRY(cached_digest(boot.assets.kernel, cache));
  const std::string initramfs = SM_TRY(cached_digest(boot.assets.initramfs, cache));
  Subject out;
  out.request = SM_TRY(make_request(run, image.config, {}, host));
  out.source = std::make_shared<BakedSource>(std::move(boot),
                                             SM_TRY(SnapshotCache::open(cache + "/snapshots")),
                                             kernel, initramfs, run.image);
  out.in_use = std::move(image.in_use);
  return out;
}

Result<Subject> subject_of(const PoolTrial& trial, const HostEnv& host,
                           const std::stop_token& stop) {
  const std::string cache = SM_TRY(cache_dir());
  BootConfig boot;
  boot.assets = SM_TRY(find_assets());
  boot.engine = SM_TRY(resolve_engine(trial.run.engine, boot.assets, cache));
  RunOptions run = trial.run;
  if (run.command.empty()) run.command = {"true"};
  run.entrypoint = "";
  const TagStore tags = SM_TRY(TagStore::open(cache));
  if (tags.has(run.image)) return of_snapshot(tags.path(run.image), run, std::move(boot), host);
  // oci:./folder and host/name have slashes, too.
  auto saved = of_snapshot(run.image, run, boot, host);
  if (saved || saved.error().code() != Code::kNotFound) return saved;
  return of_image(run, std::move(boot), cache, host, stop);
}

Status run_once(VmHost& host, const std::shared_ptr<VmEndpoint>& vm,
                const agent::ExecRequest& request) {
  std::promise<Result<ExecOutput>> answer;
  run_exec(host.loop(), vm, request, {}, 1u << 20,
           [&answer](Result<ExecOutput> output) { answer.set_value(std::move(output)); });
  const ExecOutput output = SM_TRY(answer.get_future().get());
  if (!output.report.signalled && output.report.value == 0) return {};
  return fail(Code::kGuest, "the command " + request.argv[0] + " failed in the VM",
              "try it with `supermachine run` or `restore`");
}

// Takes, uses and gives back; `out` is filled as it goes. The end of the loop ends it.
Status measure(VmHost& vms, const PoolTrial& trial, Subject subject, PoolFigures& out) {
  PoolLimits limits;
  limits.min = trial.count;
  limits.max = std::size_t{trial.count} + 1;  // one more while one is being replaced
  limits.acquire_timeout = std::chrono::minutes(5);
  const TimePoint begin = now();
  const auto pool = SM_TRY(vms.pool(std::move(subject.source), limits, true));
  {
    // Full when all can be held at a time.
    std::vector<VmLease> all;
    for (std::uint32_t i = 0; i < trial.count; ++i) all.push_back(SM_TRY(VmHost::acquire(*pool)));
    out.fill_ms = since(begin);
  }
  const auto before = pool->stats().acquired_warm;
  for (std::uint32_t i = 0; i < trial.cycles; ++i) {
    TimePoint start = now();
    VmLease lease = SM_TRY(VmHost::acquire(*pool));
    const double acquire_ms = since(start);
    start = now();
    SM_TRY_STATUS(run_once(vms, lease.endpoint(), subject.request));
    out.exec_ms.push_back(since(start));
    out.acquire_ms.push_back(acquire_ms);
    start = now();
    lease.release();
    out.release_ms.push_back(since(start));
    out.warm = pool->stats().acquired_warm - before;
    out.failed = pool->stats().failed;
  }
  pool->close();
  return {};
}

// On a thread of its own, while the main one listens to the user.
Status measure_until_signal(const PoolTrial& trial, const HostEnv& host, PoolFigures& out) {
  const SessionSignals signals;
  const auto loop = SM_TRY(EventLoop::create());
  const auto vms = SM_TRY(VmHost::create(SM_TRY(runtime_dir())));
  std::stop_source stop;
  int interrupted_by = 0;
  SM_TRY(loop->add(signals.fd(), EPOLLIN, [&](std::uint32_t) {
    const int number = signals.next();
    const bool ends = number == SIGINT || number == SIGTERM || number == SIGHUP;
    if (!ends || std::exchange(interrupted_by, number) != 0) return;
    stop.request_stop();
    // Answers what the trial waits for, and ends its VMs.
    vms->loop()->stop();
  }));
  Status status;
  {
    const std::jthread worker([&] {
      auto subject = subject_of(trial, host, stop.get_token());
      if (subject) subject->request.main = false;
      status = subject ? measure(*vms, trial, std::move(*subject), out)
                       : fail(std::move(subject).error());
      loop->stop();
    });
    loop->run();
  }
  out.interrupted_by = interrupted_by;
  return interrupted_by != 0 ? Status() : status;
}

}  // namespace

Result<PoolFigures> run_pool_trial(const PoolTrial& trial, const HostEnv& host) {
  PoolFigures out;
  SM_TRY_STATUS(measure_until_signal(trial, host, out));
  return out;
}

}  // namespace sm
