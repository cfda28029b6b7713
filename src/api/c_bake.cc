// The C interface: baking.
#include <algorithm>

#include "api/c_handles.h"
#include "runtime/bake/bake.h"

using supermachine::BakeWhen;
using supermachine::Error;
using supermachine::ErrorCode;
using supermachine::Result;
using namespace supermachine::c;

namespace {

constexpr std::uint64_t kLongest = 1ull << 40;

std::chrono::milliseconds span(std::uint64_t ms) {
  return std::chrono::milliseconds(std::min(ms, kLongest));
}

Result<void> set_ready(supermachine::BakeConfig& out, const std::string& ready) {
  if (ready == "request") {
    out.when = BakeWhen::kRequest;
    return {};
  }
  const auto parsed = sm::parse_readiness(ready);
  if (!parsed || parsed->when == sm::ReadyWhen::kRequest) {
    return Error(ErrorCode::kInvalidArgument, "'" + ready + "' is no sign of readiness",
                 "use pre-exec, listener[:PORT], heartbeat, after-ms:N or request");
  }
  // In the same order in both.
  out.when = static_cast<BakeWhen>(parsed->when);
  out.port = parsed->port;
  out.after = parsed->after;
  return {};
}
static_assert(static_cast<int>(sm::ReadyWhen::kAfter) == static_cast<int>(BakeWhen::kAfter));
static_assert(static_cast<int>(sm::ReadyWhen::kListener) == static_cast<int>(BakeWhen::kListener));

Result<supermachine::BakeConfig> bake_config(const supermachine_bake_options* given) {
  const auto o = sized(given);
  supermachine::BakeConfig out;
  if (o.ready != nullptr) {
    if (auto ready = set_ready(out, o.ready); !ready) return ready.error();
  }
  const auto engine = engine_of(o.engine);
  if (!engine) return engine.error();
  out.engine = *engine;
  out.log = text(o.log);
  out.warmup = words(o.warmup);
  out.quiesce = span(o.quiesce_ms);
  if (o.limit_ms > 0) out.limit = span(o.limit_ms);
  out.tag = text(o.tag);
  out.use_cache = o.no_cache == 0;
  out.request_name = text(o.request_name);
  if (o.request != nullptr) {
    out.request = [ask = o.request, user = o.request_user](supermachine::Vm& vm) -> Result<void> {
      supermachine_vm lent{&vm};
      const int status = ask(user, &lent);
      if (status == 0) return {};
      return Error(ErrorCode::kBakeFailed,
                   "the function that makes the VM ready returned " + std::to_string(status));
    };
  }
  return out;
}

Result<supermachine::WarmupConfig> warmup_config(const supermachine_warmup_options* given) {
  const auto o = sized(given);
  supermachine::WarmupConfig out;
  const auto engine = engine_of(o.engine);
  if (!engine) return engine.error();
  out.engine = *engine;
  for (auto at = o.commands; at != nullptr && *at != nullptr; ++at) {
    const auto command = sized(*at);
    out.commands.push_back({words(command.argv), words(command.env), span(command.timeout_ms)});
  }
  if (o.limit_ms > 0) out.limit = span(o.limit_ms);
  out.tag = text(o.tag);
  out.use_cache = o.no_cache == 0;
  return out;
}

}  // namespace

extern "C" {

supermachine_image* supermachine_image_bake(const supermachine_image* image,
                                            const supermachine_bake_options* options,
                                            supermachine_error** error) {
  const auto config = bake_config(options);
  if (!config) return put_error(config.error(), error), nullptr;
  return give<supermachine_image>(image->image.bake(*config), error);
}
void supermachine_image_bake_async(const supermachine_image* image,
                                   const supermachine_bake_options* options,
                                   void (*done)(void*, supermachine_image*, supermachine_error*),
                                   void* user) {
  const auto config = bake_config(options);
  if (!config) return done(user, nullptr, new supermachine_error{config.error()});
  image->image.bake_async(*config, giving<supermachine_image, supermachine::Image>(done, user));
}
supermachine_image* supermachine_image_with_warmup(const supermachine_image* image,
                                                   const supermachine_warmup_options* options,
                                                   supermachine_error** error) {
  const auto config = warmup_config(options);
  if (!config) return put_error(config.error(), error), nullptr;
  return give<supermachine_image>(image->image.with_warmup(*config), error);
}
void supermachine_image_with_warmup_async(
    const supermachine_image* image, const supermachine_warmup_options* options,
    void (*done)(void*, supermachine_image*, supermachine_error*), void* user) {
  const auto config = warmup_config(options);
  if (!config) return done(user, nullptr, new supermachine_error{config.error()});
  image->image.with_warmup_async(*config,
                                 giving<supermachine_image, supermachine::Image>(done, user));
}

}  // extern "C"
