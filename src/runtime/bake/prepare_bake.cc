#include "runtime/bake/prepare_bake.h"

#include <utility>

#include "base/bytes.h"
#include "base/json.h"
#include "oci/digest.h"
#include "oci/text.h"
#include "runtime/bake/tag_store.h"
#include "runtime/vm/baked_source.h"

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

std::string digest_of(const nlohmann::json& all) {
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

Result<BakePlan> make_plan(const BakeOptions& o, const agent::ExecRequest& request) {
  BakePlan out;
  out.ready = SM_TRY(parse_readiness(o.ready));
  out.on_request = o.on_request;
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

}  // namespace

std::string bake_inputs(const BakeOptions& o, const BootConfig& boot, const SavedImage& image,
                        const BakeGround& ground) {
  const nlohmann::json all = {{"kernel", ground.kernel_digest},
                              {"initramfs", ground.initramfs_digest},
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
  return digest_of(all);
}

std::string warmup_inputs(const std::string& parent,
                          const std::vector<agent::ExecRequest>& commands) {
  nlohmann::json all = {{"parent", parent}, {"commands", nlohmann::json::array()}};
  for (const agent::ExecRequest& command : commands) {
    all["commands"].push_back({{"argv", bytes_as_texts(command.argv)},
                               {"env", bytes_as_texts(command.env)},
                               {"cwd", bytes_as_text(command.cwd)},
                               {"user", bytes_as_text(command.user)},
                               {"timeout", command.timeout_ms}});
  }
  return digest_of(all);
}

Status check_bake(const BakeOptions& o) {
  const Readiness ready = SM_TRY(parse_readiness(o.ready));
  const bool runs = ready.when != ReadyWhen::kPreExec;
  if (ready.when == ReadyWhen::kRequest && !o.on_request) {
    return fail(Code::kInvalidArgument, "nobody would ask for the snapshot",
                "give a function that does, or choose another sign of readiness");
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

Result<PreparedBake> prepare_bake(const BakeOptions& o, const BakeGround& ground,
                                  const LoadedImage& image,
                                  const std::vector<std::string>& file_env, const HostEnv& host) {
  SM_TRY_STATUS(check_bake(o));
  const agent::ExecRequest request = SM_TRY(make_request(o.run, image.config, file_env, host));
  PreparedBake out;
  out.plan = SM_TRY(make_plan(o, request));
  const SavedImage saved = saved_image(o, image, request, out.plan.workload.has_value());
  out.plan.save.annotations = SM_TRY(saved_annotations(saved));
  const BootConfig boot = boot_config(o.run, ground.assets, image);
  SM_TRY_STATUS(check_boot_config(boot));
  out.inputs = bake_inputs(o, boot, saved, ground);
  out.plan.save.replace = true;
  out.plan.save.annotations[kBakeKey] = out.inputs;
  out.source =
      std::make_shared<BakedSource>(boot, SM_TRY(SnapshotCache::open(ground.cache + "/snapshots")),
                                    ground.kernel_digest, ground.initramfs_digest, o.run.image);
  return out;
}

}  // namespace sm
