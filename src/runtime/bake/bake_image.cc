#include "runtime/bake/bake_image.h"

#include <thread>
#include <utility>

#include "base/event_loop.h"
#include "runtime/bake/fingerprint.h"
#include "runtime/bake/saved_machine.h"
#include "runtime/bake/tag_store.h"
#include "runtime/bake/vm_host.h"
#include "runtime/engine_choice.h"
#include "runtime/paths.h"
#include "vmm/snapshot/snapshot_dir.h"

namespace sm {

namespace {

// Bakes on a thread of its own while this one listens to the user.
Result<int> bake_until_signal(const BakePlan& plan, std::shared_ptr<VmSource> source,
                              const std::string& runtime_dir, const SessionSignals& signals,
                              control::Done& done) {
  const auto loop = SM_TRY(EventLoop::create());
  const auto host = SM_TRY(VmHost::create(runtime_dir));
  PoolLimits limits;
  limits.hopeless_after = 2;  // the second is for a damaged snapshot of the booted image
  limits.acquire_timeout = std::chrono::minutes(6);
  const auto pool = SM_TRY(host->pool(std::move(source), limits, false));
  std::stop_source stop;
  int interrupted_by = 0;
  SM_TRY(loop->add(signals.fd(), EPOLLIN, [&](std::uint32_t) {
    const int number = signals.next();
    if (number != SIGINT && number != SIGTERM && number != SIGHUP) return;
    interrupted_by = number;
    stop.request_stop();
    pool->close();
  }));
  Status status;
  {
    const std::jthread worker([&] {
      auto lease = VmHost::acquire(*pool);
      auto result = lease ? bake_vm(host->loop(), lease->endpoint(), plan, stop.get_token())
                          : fail(std::move(lease).error());
      if (result) {
        done = *result;
      } else {
        status = fail(std::move(result).error());
      }
      loop->stop();
    });
    loop->run();
  }
  if (interrupted_by != 0 && !status) return interrupted_by;
  if (!status) return fail(std::move(status).error());
  return 0;
}

}  // namespace

Result<BakeOutcome> bake_image(const BakeOptions& given, const std::vector<std::string>& file_env,
                               const HostEnv& host, const ImageObservers& observers) {
  const SessionSignals signals;
  const Assets assets = SM_TRY(find_assets());
  const std::string cache = SM_TRY(cache_dir());
  const TagStore tags = SM_TRY(TagStore::open(cache));
  if (!given.tag.empty()) SM_TRY_STATUS(TagStore::check(given.tag));
  if (SM_TRY(parse_readiness(given.ready)).when == ReadyWhen::kPreExec &&
      !given.run.command.empty()) {
    return fail(Code::kInvalidArgument, "the command would not run before the snapshot",
                "say when it is ready, such as --ready listener");
  }
  SM_TRY_STATUS(check_bake(given));
  BakeOptions o = given;
  o.run.engine = SM_TRY(resolve_engine(given.run.engine, assets, cache));
  BakeOutcome out;
  out.path = given.tag.empty() ? SM_TRY(absolute_path(given.folder)) : tags.path(given.tag);
  SM_TRY_STATUS(check_snapshot_place(out.path, true));

  const ImageRequest wanted{o.run.image, o.run.pull, o.run.platform};
  const LoadedImage image =
      SM_TRY(load_image(wanted, SM_TRY(ImageFolders::find()), signals, observers));
  out.interrupted_by = image.interrupted_by;
  if (out.interrupted_by != 0) return out;
  PreparedBake bake =
      SM_TRY(prepare_bake(o,
                          {assets, cache, SM_TRY(cached_digest(assets.kernel, cache)),
                           SM_TRY(cached_digest(assets.initramfs, cache))},
                          image, file_env, host));
  if (!o.no_cache && !o.tag.empty()) {
    // One that is gone or replaced before it has its second name is made anew.
    const auto same = tags.find_same(bake.inputs, o.tag);
    if (same && (same->tag == o.tag || tags.link(*same, o.tag))) {
      out.linked = same->tag;
      return out;
    }
  }
  bake.plan.save.path = out.path;
  control::Done done;
  out.interrupted_by = SM_TRY(
      bake_until_signal(bake.plan, std::move(bake.source), SM_TRY(runtime_dir()), signals, done));
  out.bytes = done.bytes;
  return out;
}

}  // namespace sm
