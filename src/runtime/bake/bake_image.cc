#include "runtime/bake/bake_image.h"

#include <thread>
#include <utility>

#include "base/bytes.h"
#include "base/event_loop.h"
#include "base/json.h"
#include "oci/digest.h"
#include "oci/text.h"
#include "runtime/bake/fingerprint.h"
#include "runtime/bake/saved_machine.h"
#include "runtime/bake/tag_store.h"
#include "runtime/bake/vm_host.h"
#include "runtime/engine_choice.h"
#include "runtime/paths.h"
#include "runtime/vm/baked_source.h"
#include "vmm/snapshot/snapshot_dir.h"

namespace sm {

namespace {

// Each byte as the character of its number: different bytes stay different texts in JSON.
std::string bytes_as_text(const std::string& bytes) {
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80) out += static_cast<char>(0xC0 | (byte >> 6));
    out += static_cast<char>(byte >= 0x80 ? 0x80 | (byte & 0x3F) : byte);
  }
  return out;
}

std::vector<std::string> bytes_as_texts(std::vector<std::string> all) {
  for (std::string& bytes : all) bytes = bytes_as_text(bytes);
  return all;
}

// What is the same in two snapshots that need not be made twice.
std::string inputs_of(const BakeOptions& o, const BootConfig& boot, const SavedImage& image,
                      const std::string& kernel, const std::string& initramfs) {
  const nlohmann::json all = {{"kernel", kernel},
                              {"initramfs", initramfs},
                              {"layers", image.layers},
                              {"env", image.config.env},
                              {"user", image.config.user},
                              {"workdir", image.config.working_dir},
                              {"entrypoint", image.config.entrypoint},
                              {"cmd", image.config.cmd},
                              {"memory", boot.memory_mib},
                              {"vcpus", boot.vcpus},
                              {"engine", boot.engine},
                              {"ready", o.ready},
                              {"warmup", bytes_as_texts(o.warmup)},
                              {"output", bytes_as_text(o.output)},
                              {"quiesce", o.quiesce.count()}};
  const std::string text = dump_json(all);
  return Hasher::of(as_byte_span(text)).hex();
}

SavedImage saved_image(const BakeOptions& o, const LoadedImage& loaded,
                       const agent::ExecRequest& request, bool workload) {
  SavedImage out;
  out.reference = o.run.image;
  out.digest = loaded.digest;
  out.config = loaded.config;
  out.config.env = request.env;
  out.config.user = request.user;
  out.config.working_dir = request.cwd;
  if (o.run.entrypoint) out.config.entrypoint.clear();
  if (o.run.entrypoint && !o.run.entrypoint->empty()) {
    out.config.entrypoint.push_back(*o.run.entrypoint);
  }
  if (o.run.entrypoint || !o.run.command.empty()) out.config.cmd = o.run.command;
  for (const auto& layer : loaded.layers) {
    out.layers.push_back(layer.substr(layer.rfind('/') + 1));
  }
  out.workload = workload;
  return out;
}

BootConfig boot_config(const RunOptions& options, const Assets& assets, const LoadedImage& image) {
  return {.assets = assets,
          .layers = image.layers,
          .memory_mib = options.memory_bytes >> 20,
          .vcpus = options.cpus,
          .engine = options.engine,
          .hostname = kBakedHostname};
}

// What can be said before there is an image.
Status check_options(const BakeOptions& o) {
  const bool runs = SM_TRY(parse_readiness(o.ready)).when != ReadyWhen::kPreExec;
  if (!runs && !o.run.command.empty()) {
    return fail(Code::kInvalidArgument, "the command would not run before the snapshot",
                "say when it is ready, such as --ready listener");
  }
  if (o.output.empty()) return {};
  if (!runs) {
    return fail(Code::kInvalidArgument, "a log of a command that does not run before the snapshot",
                "say when it is ready, such as --ready listener, or leave out --log");
  }
  if (o.output[0] == '/' && o.output.size() <= agent::kMaxPath) return {};
  return fail(Code::kInvalidArgument, "the log '" + printable(o.output) + "' is no absolute path",
              "name a file of the guest, such as /var/log/server.log");
}

Result<BakePlan> make_plan(const BakeOptions& o, const agent::ExecRequest& request) {
  BakePlan out;
  out.ready = SM_TRY(parse_readiness(o.ready));
  if (out.ready.when != ReadyWhen::kPreExec) {
    out.workload = request;
    out.workload->output = o.output;
  }
  for (const std::string& command : o.warmup) {
    agent::ExecRequest warm = request;
    warm.main = false;
    warm.argv = {"/bin/sh", "-c", command};
    out.warmup.push_back(std::move(warm));
  }
  out.quiesce = o.quiesce;
  out.limit = o.limit;
  return out;
}

// Bakes on a thread of its own while this one listens to the user.
Result<int> bake_until_signal(const BakePlan& plan, std::shared_ptr<VmSource> source,
                              const std::string& runtime_dir, const SessionSignals& signals,
                              control::Done& done) {
  const auto loop = SM_TRY(EventLoop::create());
  const auto host = SM_TRY(VmHost::create(runtime_dir));
  PoolLimits limits;
  limits.hopeless_after = 2;  // the second is for a damaged snapshot of the booted image
  limits.acquire_timeout = std::chrono::minutes(6);
  const auto pool = SM_TRY(host->pool(std::move(source), limits));
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
  SM_TRY_STATUS(check_options(given));
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
  const agent::ExecRequest request = SM_TRY(make_request(o.run, image.config, file_env, host));
  BakePlan plan = SM_TRY(make_plan(o, request));
  const SavedImage saved = saved_image(o, image, request, plan.workload.has_value());
  auto annotations = SM_TRY(saved_annotations(saved));
  const BootConfig boot = boot_config(o.run, assets, image);
  SM_TRY_STATUS(check_boot_config(boot));
  const std::string kernel = SM_TRY(cached_digest(assets.kernel, cache));
  const std::string initramfs = SM_TRY(cached_digest(assets.initramfs, cache));
  const std::string inputs = inputs_of(o, boot, saved, kernel, initramfs);
  if (!o.no_cache && !o.tag.empty()) {
    // One that is gone or replaced before it has its second name is made anew.
    const auto same = tags.find_same(inputs, o.tag);
    if (same && (same->tag == o.tag || tags.link(*same, o.tag))) {
      out.linked = same->tag;
      return out;
    }
  }
  plan.save.path = out.path;
  plan.save.replace = true;
  plan.save.annotations = std::move(annotations);
  plan.save.annotations[kBakeKey] = inputs;
  auto source = std::make_shared<BakedSource>(
      boot, SM_TRY(SnapshotCache::open(cache + "/snapshots")), kernel, initramfs, o.run.image);
  control::Done done;
  out.interrupted_by =
      SM_TRY(bake_until_signal(plan, std::move(source), SM_TRY(runtime_dir()), signals, done));
  out.bytes = done.bytes;
  return out;
}

}  // namespace sm
