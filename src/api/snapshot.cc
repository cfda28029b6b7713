// Snapshots and pauses of VMs, and images that are snapshots.
#include <supermachine/image.h>
#include <supermachine/vm.h>

#include <utility>

#include "api/errors.h"
#include "api/vm_impl.h"
#include "runtime/engine_choice.h"

namespace supermachine {

namespace {
std::string file_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }
}  // namespace

sm::SavedImage saved_image(const Image::Impl& image, bool workload) {
  sm::SavedImage out;
  out.reference = image.reference;
  out.digest = image.digest;
  out.config = image.config;
  for (const std::string& variable : image.defaults.env) out.config.env.push_back(variable);
  std::erase_if(out.config.env,
                [](const std::string& v) { return v.find('=') == std::string::npos; });
  if (!image.defaults.user.empty()) out.config.user = image.defaults.user;
  if (!image.defaults.workdir.empty()) out.config.working_dir = image.defaults.workdir;
  if (!image.defaults.command.empty()) out.config.cmd = image.defaults.command;
  for (const std::string& layer : image.layers) out.layers.push_back(file_name(layer));
  out.workload = workload;
  return out;
}

namespace {

enum class Kind { kPaused, kLive, kDiff };

sm::Result<sm::SaveOrder> make_order(Vm::Impl& vm, Kind kind, const std::string& dir,
                                     const std::string& base) {
  bool workload = false;
  {
    const std::lock_guard lock(vm.mutex);
    workload = vm.workload_claimed;
  }
  sm::SaveOrder out;
  out.path = SM_TRY(sm::absolute_path(dir));
  out.replace = true;
  out.stay_paused = kind == Kind::kPaused;
  out.annotations = SM_TRY(sm::saved_annotations(saved_image(*vm.image, workload)));
  if (kind != Kind::kDiff) return out;
  sm::SnapshotBase from = SM_TRY(sm::base_of_diff(base));
  if (from.path == out.path) {
    return sm::fail(sm::Code::kInvalidArgument, "a snapshot cannot replace its own base",
                    "name another folder");
  }
  out.base = std::move(from);
  return out;
}

bool workload_is_attached(Vm::Impl& vm) {
  const std::lock_guard lock(vm.mutex);
  return vm.workload_claimed && !vm.workload_detached;
}

sm::Error gone(const sm::VmEndpoint& endpoint) {
  return endpoint.end().value_or(sm::Error(sm::Code::kGone, "the VM has ended"));
}

// Runs `act` with the VM's controls, on the loop.
void with_control(const std::shared_ptr<Vm::Impl>& vm, const Done<void>& done,
                  std::function<void(sm::VmControl&)> act) {
  const bool posted = vm->context->loop->post([vm, done, act = std::move(act)] {
    const auto endpoint = vm->target();
    sm::VmControl* control = endpoint->control();
    if (control == nullptr) {
      return done(to_public(gone(*endpoint), Operation::kSnapshot));
    }
    act(*control);
  });
  if (!posted) done(Error(ErrorCode::kClosed, "the context is closed"));
}

void snapshot_on(const std::shared_ptr<Vm::Impl>& vm, Kind kind, const std::string& dir,
                 const std::string& base, const Done<void>& done) {
  if (auto end = vm->target()->end()) return done(to_public(*end, Operation::kSnapshot));
  if (workload_is_attached(*vm)) {
    return done(Error(ErrorCode::kInvalidState,
                      "the VM's workload is attached: it would end in every VM of the snapshot",
                      "start it with detach(), or take the snapshot before it"));
  }
  auto order = make_order(*vm, kind, dir, base);
  if (!order) return done(to_public(order.error(), Operation::kSnapshot));
  with_control(vm, done, [done, order = std::move(*order)](sm::VmControl& control) {
    control.save(order, [done](const sm::Result<sm::control::Done>& saved) {
      if (!saved) return done(to_public(saved.error(), Operation::kSnapshot));
      done({});
    });
  });
}

void pause_on(const std::shared_ptr<Vm::Impl>& vm, bool paused, const Done<void>& done) {
  with_control(vm, done, [done, paused](sm::VmControl& control) {
    control.set_paused(paused,
                       [done](const sm::Status& s) { done(to_public(s, Operation::kSnapshot)); });
  });
}

Result<void> snapshot_wait(const std::shared_ptr<Vm::Impl>& vm, Kind kind, const std::string& dir,
                           const std::string& base) {
  return await<void>(vm->context,
                     [&](const Done<void>& d) { snapshot_on(vm, kind, dir, base, d); });
}

}  // namespace

Result<void> Vm::pause() {
  return await<void>(impl_->context, [&](const Done<void>& d) { pause_on(impl_, true, d); });
}
void Vm::pause_async(std::function<void(Result<void>)> done) {
  pause_on(impl_, true, delivered<void>(impl_->context, std::move(done)));
}
Result<void> Vm::resume() {
  return await<void>(impl_->context, [&](const Done<void>& d) { pause_on(impl_, false, d); });
}
void Vm::resume_async(std::function<void(Result<void>)> done) {
  pause_on(impl_, false, delivered<void>(impl_->context, std::move(done)));
}

Result<void> Vm::snapshot(const std::string& dir) {
  return snapshot_wait(impl_, Kind::kPaused, dir, {});
}
Result<void> Vm::snapshot_live(const std::string& dir) {
  return snapshot_wait(impl_, Kind::kLive, dir, {});
}
Result<void> Vm::snapshot_diff(const std::string& dir, const std::string& base) {
  return snapshot_wait(impl_, Kind::kDiff, dir, base);
}
void Vm::snapshot_async(const std::string& dir, std::function<void(Result<void>)> done) {
  snapshot_on(impl_, Kind::kPaused, dir, {}, delivered<void>(impl_->context, std::move(done)));
}
void Vm::snapshot_live_async(const std::string& dir, std::function<void(Result<void>)> done) {
  snapshot_on(impl_, Kind::kLive, dir, {}, delivered<void>(impl_->context, std::move(done)));
}
void Vm::snapshot_diff_async(const std::string& dir, const std::string& base,
                             std::function<void(Result<void>)> done) {
  snapshot_on(impl_, Kind::kDiff, dir, base, delivered<void>(impl_->context, std::move(done)));
}

Result<std::shared_ptr<const Image::Impl>> load_snapshot(const ContextPtr& context,
                                                         const std::string& dir) {
  auto machine = sm::open_saved_machine(dir, context->cache_dir + "/layers");
  if (!machine) return to_public(machine.error(), Operation::kSnapshot);
  auto engine = sm::resolve_engine("auto", context->assets, context->cache_dir);
  if (!engine) return to_public(engine.error(), Operation::kOther);
  auto out = std::make_shared<Image::Impl>();
  out->context = context;
  out->auto_engine = std::move(*engine);
  out->kernel_digest = machine->facts.kernel_digest;
  out->initramfs_digest = machine->facts.initramfs_digest;
  out->reference = machine->image.reference;
  out->digest = machine->image.digest;
  out->config = machine->image.config;
  out->layers = machine->layers;
  out->defaults.memory_mib = machine->facts.memory_bytes >> 20;
  out->defaults.vcpus = machine->facts.vcpus;
  out->snapshot = std::move(*machine);
  return std::shared_ptr<const Image::Impl>(std::move(out));
}

Result<Image> Image::from_snapshot(const Context& context, const std::string& dir) {
  if (context.impl()->loop->on_thread()) {
    return Error(ErrorCode::kInvalidState, "a blocking call on the library's own thread",
                 "use the asynchronous form in completions, or Completions::kQueue");
  }
  auto impl = load_snapshot(context.impl(), dir);
  if (!impl) return impl.error();
  return Image(std::move(*impl));
}

void Image::from_snapshot_async(const Context& context, const std::string& dir,
                                std::function<void(Result<Image>)> done) {
  const ContextPtr& impl = context.impl();
  const auto answer = delivered<Image>(impl, std::move(done));
  const bool begun = impl->run_in_background([impl, answer, dir](const std::stop_token&) {
    auto loaded = load_snapshot(impl, dir);
    answer(loaded ? Result<Image>(Image(std::move(*loaded))) : Result<Image>(loaded.error()));
  });
  if (!begun) answer(Error(ErrorCode::kClosed, "the context is closed"));
}

}  // namespace supermachine
