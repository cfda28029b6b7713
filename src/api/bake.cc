// Image::bake and Image::with_warmup: jobs in the background, in the steps of runtime/bake.
#include <supermachine/bake.h>
#include <supermachine/image.h>

#include <atomic>
#include <future>
#include <optional>
#include <stop_token>
#include <utility>

#include "api/errors.h"
#include "api/vm_impl.h"
#include "runtime/bake/prepare_bake.h"
#include "runtime/bake/tag_store.h"
#include "runtime/vm/baked_source.h"

namespace supermachine {

namespace {

using ImagePtr = std::shared_ptr<const Image::Impl>;
constexpr std::size_t kMaxRequestName = 256;

// What is to be made, and what it is made of.
struct Job {
  ImagePtr image;
  VmConfig vm;  // what it is made in
  sm::BakePlan plan;
  std::string inputs;
  std::string tag;
  bool use_cache = true;
  bool workload_came = false;  // with the snapshot
  std::function<Result<void>(Vm&)> request;
};

sm::Result<std::string> ready_text(const BakeConfig& config) {
  switch (config.when) {
    case BakeWhen::kPreExec:
      return "pre-exec";
    case BakeWhen::kListener:
      return config.port == 0 ? "listener" : "listener:" + std::to_string(config.port);
    case BakeWhen::kHeartbeat:
      return "heartbeat";
    case BakeWhen::kAfter:
      return "after-ms:" + std::to_string(config.after.count());
    case BakeWhen::kRequest:
      break;
  }
  const std::string& name = config.request_name;
  if (!name.empty() && name.size() <= kMaxRequestName && name.find('\0') == std::string::npos) {
    return "request:" + name;
  }
  return sm::fail(sm::Code::kInvalidArgument, "a bake on request needs a name for what is done",
                  "set request_name to 1 to 256 bytes without NUL");
}

sm::Result<sm::BakeOptions> options_of(const Image::Impl& image, const BakeConfig& config) {
  sm::BakeOptions out;
  out.run.image = image.reference;
  out.run.env = image.defaults.env;
  out.run.user = image.defaults.user;
  out.run.workdir = image.defaults.workdir;
  out.run.command = image.defaults.command;
  out.run.engine = engine_of(image, config.engine);
  out.run.memory_bytes = image.defaults.memory_mib << 20;
  out.run.cpus = image.defaults.vcpus;
  out.tag = config.tag;
  out.ready = SM_TRY(ready_text(config));
  if (config.when == BakeWhen::kRequest && config.request) {
    out.on_request = [] { return sm::Status(); };  // set when there is a VM
  }
  out.output = config.log;
  out.warmup = config.warmup;
  out.quiesce = config.quiesce;
  out.limit = config.limit;
  return out;
}

sm::Result<sm::PreparedBake> prepare(const Image::Impl& image, const sm::BakeOptions& options) {
  sm::LoadedImage loaded;
  loaded.config = image.config;
  loaded.digest = image.digest;
  loaded.layers = image.layers;
  const auto no_host = [](const std::string&) { return std::optional<std::string>(); };
  return sm::prepare_bake(options,
                          {image.context->assets, image.context->cache_dir, image.kernel_digest,
                           image.initramfs_digest},
                          loaded, {}, no_host);
}

sm::Status check_times(std::chrono::milliseconds limit, std::chrono::milliseconds pause) {
  constexpr auto kDay = std::chrono::hours(24);
  if (limit > std::chrono::milliseconds::zero() && limit <= kDay &&
      pause >= std::chrono::milliseconds::zero() && pause <= kDay) {
    return {};
  }
  return sm::fail(sm::Code::kInvalidArgument, "a limit or pause that is negative or above a day",
                  "use a positive limit");
}

sm::Result<Job> bake_job(const ImagePtr& image, const BakeConfig& config) {
  if (image->snapshot) {
    return sm::fail(sm::Code::kInvalidArgument, "the image is a snapshot, which has been baked",
                    "use with_warmup(), or bake the image that it was made of");
  }
  SM_TRY_STATUS(check_times(config.limit, config.quiesce));
  if (!config.tag.empty()) SM_TRY_STATUS(sm::TagStore::check(config.tag));
  sm::PreparedBake made = SM_TRY(prepare(*image, SM_TRY(options_of(*image, config))));
  Job out;
  out.image = image;
  out.vm.engine = config.engine;
  out.plan = std::move(made.plan);
  out.inputs = std::move(made.inputs);
  out.tag = config.tag;
  out.use_cache = config.use_cache;
  out.request = config.request;
  return out;
}

sm::Result<sm::agent::ExecRequest> warmup_request(const Image::Impl& image,
                                                  const WarmupCommand& command) {
  SM_TRY_STATUS(check_variables(command.env));
  SM_TRY_STATUS(check_times(std::chrono::milliseconds(1), command.timeout));
  sm::agent::ExecRequest out;
  out.argv = command.argv;
  out.env = command.env;
  out.timeout_ms = static_cast<std::uint64_t>(command.timeout.count());
  add_defaults(image, {}, out);
  SM_TRY_STATUS(check_request(out));
  return out;
}

sm::Result<Job> warmup_job(const ImagePtr& image, const WarmupConfig& config) {
  if (config.commands.empty()) {
    return sm::fail(sm::Code::kInvalidArgument, "a warm-up without commands", "add some");
  }
  SM_TRY_STATUS(check_times(config.limit, {}));
  if (!config.tag.empty()) SM_TRY_STATUS(sm::TagStore::check(config.tag));
  Job out;
  out.image = image;
  out.vm.engine = config.engine;
  for (const WarmupCommand& command : config.commands) {
    out.plan.warmup.push_back(SM_TRY(warmup_request(*image, command)));
  }
  // What it is made of: this snapshot, or a VM of the image as bake() would have it.
  std::string parent;
  if (image->snapshot) {
    parent = image->snapshot->facts.memory_digest;
    out.workload_came = image->snapshot->image.workload;
  } else {
    BakeConfig plain;
    plain.engine = config.engine;
    parent = SM_TRY(prepare(*image, SM_TRY(options_of(*image, plain)))).inputs;
  }
  out.plan.limit = config.limit;
  out.plan.save.replace = true;
  out.plan.save.annotations = SM_TRY(sm::saved_annotations(saved_image(*image, out.workload_came)));
  out.inputs = sm::warmup_inputs(parent, out.plan.warmup);
  out.plan.save.annotations[sm::kBakeKey] = out.inputs;
  out.tag = config.tag;
  out.use_cache = config.use_cache;
  return out;
}

// The snapshot of these inputs that is there already, under the name that is wanted.
std::optional<std::string> find_made(const sm::TagStore& tags, const Job& job,
                                     const std::string& tag) {
  if (!job.use_cache) return std::nullopt;
  const auto same = tags.find_same(job.inputs, tag);
  if (!same) return std::nullopt;
  if (job.tag.empty() || same->tag == tag) return tags.path(same->tag);
  if (!tags.link(*same, tag)) return std::nullopt;
  return tags.path(tag);
}

Result<sm::VmLease> start_vm(const Job& job, const std::stop_token& stop) {
  auto pool = make_pool(job.image, job.vm, limits_of_one(job.vm), false);
  if (!pool) return to_public(pool.error(), Operation::kStart);
  const std::stop_callback close(stop, [&pool] { (*pool)->close(); });
  std::promise<sm::Result<sm::VmLease>> answer;
  (*pool)->acquire(
      [&answer](sm::Result<sm::VmLease> lease) { answer.set_value(std::move(lease)); });
  auto lease = answer.get_future().get();
  (*pool)->close();
  if (!lease) return to_public(lease.error(), Operation::kStart);
  return std::move(*lease);
}

// Releases the VM at a moment, unless destroyed before.
class Leash {
 public:
  Leash(ContextPtr context, const std::shared_ptr<Vm::Impl>& vm, sm::Duration limit)
      : context_(std::move(context)), state_(std::make_shared<State>()) {
    const sm::TimePoint at = sm::now() + limit;
    static_cast<void>(context_->loop->post([c = context_, state = state_, vm, at] {
      if (state->over) return;
      state->timer = c->loop->loop().add_timer(at, [state, vm] {
        state->fired = true;
        vm->release();
      });
    }));
  }
  ~Leash() {
    state_->over = true;
    static_cast<void>(context_->loop->post(
        [c = context_, state = state_] { c->loop->loop().cancel_timer(state->timer); }));
  }
  Leash(const Leash&) = delete;
  Leash& operator=(const Leash&) = delete;
  Leash(Leash&&) = delete;
  Leash& operator=(Leash&&) = delete;

  bool fired() const { return state_->fired; }

 private:
  struct State {
    std::atomic<bool> over{false}, fired{false};
    sm::TimerId timer = sm::TimerId::kNone;  // the loop's
  };
  const ContextPtr context_;
  const std::shared_ptr<State> state_;
};

}  // namespace

// What only a friend of Vm may do: lend one to a function.
struct BakeAccess {
  static Result<void> ask(const std::function<Result<void>(Vm&)>& request,
                          const std::shared_ptr<Vm::Impl>& impl) {
    Vm vm(impl);
    auto answer = request(vm);
    vm.impl_.reset();  // the VM is not its to end
    return answer;
  }
  static Image image(ImagePtr impl) { return Image(std::move(impl)); }
};

namespace {

// Makes the snapshot at plan.save.path. Its VM ends.
Result<void> make_snapshot(Job& job, const std::stop_token& stop) {
  auto lease = start_vm(job, stop);
  if (!lease) return lease.error();
  const auto vm = make_vm(job.image, job.vm, std::move(*lease));
  std::optional<Error> refused;
  if (job.request && job.plan.workload) {
    vm->workload_claimed = vm->workload_detached = true;
    job.plan.on_request = [&]() -> sm::Status {
      const std::stop_callback end(stop, [&vm] { vm->release(); });
      const Leash leash(vm->context, vm, job.plan.limit);
      const auto answer = BakeAccess::ask(job.request, vm);
      if (answer) return {};
      if (leash.fired()) {
        return sm::fail(sm::Code::kTimeout, "the VM was not ready to be saved in time",
                        "allow more time");
      }
      refused = answer.error();
      return sm::fail(sm::Code::kGuest, answer.error().cause());
    };
  }
  const auto done = sm::bake_vm(vm->context->loop, vm->endpoint, job.plan, stop);
  const bool alive = !vm->endpoint->end();
  vm->release();
  if (done) return {};
  if (stop.stop_requested()) return Error(ErrorCode::kClosed, "the context is closed");
  if (refused && alive) return *refused;
  return to_public(done.error(), Operation::kBake);
}

// Blocks.
Result<ImagePtr> carry_out(Job& job, const std::stop_token& stop) {
  const ContextPtr& context = job.image->context;
  const auto tags = sm::TagStore::open(context->cache_dir);
  if (!tags) return to_public(tags.error(), Operation::kSnapshot);
  const std::string tag = job.tag.empty() ? "baked-" + job.inputs.substr(0, 32) : job.tag;
  if (const auto made = find_made(*tags, job, tag)) {
    auto image = load_snapshot(context, *made);
    // One that is damaged where only opening it shows that is made anew.
    if (image) return image;
  }
  job.plan.save.path = tags->path(tag);
  if (auto status = sm::check_snapshot_place(job.plan.save.path, true); !status) {
    return to_public(status.error(), Operation::kSnapshot);
  }
  if (auto made = make_snapshot(job, stop); !made) return made.error();
  return load_snapshot(context, job.plan.save.path);
}

void begin(const ContextPtr& context, sm::Result<Job> job, const Done<ImagePtr>& done) {
  if (!job) return done(to_public(job.error(), Operation::kBake));
  const auto shared = std::make_shared<Job>(std::move(*job));
  const bool begun = context->run_in_background(
      [shared, done](const std::stop_token& stop) { done(carry_out(*shared, stop)); });
  if (!begun) done(Error(ErrorCode::kClosed, "the context is closed"));
}

Result<Image> wait_for(const ImagePtr& image, const std::function<sm::Result<Job>()>& job) {
  auto made = await<ImagePtr>(
      image->context, [&](const Done<ImagePtr>& done) { begin(image->context, job(), done); });
  if (!made) return made.error();
  return BakeAccess::image(std::move(*made));
}

void answer_later(const ImagePtr& image, sm::Result<Job> job,
                  std::function<void(Result<Image>)> done) {
  const auto answer = delivered<Image>(image->context, std::move(done));
  begin(image->context, std::move(job), [answer](Result<ImagePtr> made) {
    answer(made ? Result<Image>(BakeAccess::image(std::move(*made))) : Result<Image>(made.error()));
  });
}

}  // namespace

Result<Image> Image::bake(const BakeConfig& config) const {
  return wait_for(impl_, [&] { return bake_job(impl_, config); });
}
void Image::bake_async(const BakeConfig& config, std::function<void(Result<Image>)> done) const {
  answer_later(impl_, bake_job(impl_, config), std::move(done));
}
Result<Image> Image::with_warmup(const WarmupConfig& config) const {
  return wait_for(impl_, [&] { return warmup_job(impl_, config); });
}
void Image::with_warmup_async(const WarmupConfig& config,
                              std::function<void(Result<Image>)> done) const {
  answer_later(impl_, warmup_job(impl_, config), std::move(done));
}

}  // namespace supermachine
