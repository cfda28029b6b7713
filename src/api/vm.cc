#include <supermachine/vm.h>

#include <utility>

#include "api/errors.h"
#include "api/vm_impl.h"
#include "base/bytes.h"
#include "runtime/client/file_client.h"
#include "runtime/client/guest_connect.h"
#include "runtime/client/main_signal.h"
#include "runtime/client/port_forward.h"
#include "runtime/vm/baked_source.h"
#include "runtime/vm/snapshot_source.h"
#include "runtime/vm/vm_process.h"

namespace supermachine {

namespace {

const char* engine_name(Engine engine) {
  switch (engine) {
    case Engine::kAuto:
    case Engine::kKvm:
      return "kvm";
    case Engine::kSoft:
      break;
  }
  return "soft";
}

sm::Status check_path(const std::string& path) {
  if (!path.empty() && path[0] == '/' && path.find('\0') == std::string::npos &&
      path.size() <= sm::agent::kMaxPath) {
    return {};
  }
  return sm::fail(sm::Code::kInvalidArgument,
                  "'" + path.substr(0, path.find('\0')) + "' is not a path in the guest",
                  "use an absolute path of at most 4096 bytes");
}

std::string text_of(const std::vector<std::byte>& bytes) { return std::string(sm::as_text(bytes)); }

// Runs `task` on the loop, or tells `done` that it is gone.
template <class T>
void on_loop(const ContextPtr& context, const Done<T>& done, std::function<void()> task) {
  if (!context->loop->post(std::move(task))) {
    done(Error(ErrorCode::kClosed, "the context is closed"));
  }
}

}  // namespace

// The text of one that is none may be a secret: only what stands before its '=' is named.
sm::Status check_variables(const std::vector<std::string>& variables) {
  for (const std::string& variable : variables) {
    const auto equals = variable.find('=');
    if (equals != 0 && equals != std::string::npos && variable.find('\0') == std::string::npos) {
      continue;
    }
    const std::string name = equals == std::string::npos ? "..." : variable.substr(0, equals);
    return sm::fail(sm::Code::kInvalidArgument, "'" + name + "' is not an environment variable",
                    "write NAME=value");
  }
  return {};
}

sm::PoolLimits limits_of_one(const VmConfig& config) {
  sm::PoolLimits limits;
  // The second is for a snapshot that turned out to be damaged.
  limits.hopeless_after = 2;
  // The start has a limit of its own; this is for the gate before it.
  limits.acquire_timeout = config.start_timeout + std::chrono::minutes(3);
  return limits;
}

std::string engine_of(const Image::Impl& image, Engine engine) {
  return engine == Engine::kAuto ? image.auto_engine : engine_name(engine);
}

namespace {

sm::Result<sm::BootConfig> boot_config(const Image::Impl& image, const VmConfig& config) {
  sm::BootConfig out;
  out.assets = image.context->assets;
  out.layers = image.layers;
  out.memory_mib = config.memory_mib == 0 ? image.defaults.memory_mib : config.memory_mib;
  out.vcpus = config.vcpus == 0 ? image.defaults.vcpus : config.vcpus;
  out.engine = engine_of(image, config.engine);
  out.hostname = config.hostname;
  out.secrets = config.secrets;
  out.new_machine_id = config.new_machine_id;
  SM_TRY_STATUS(sm::check_boot_config(out));
  SM_TRY_STATUS(check_variables(config.env));
  SM_TRY_STATUS(check_variables(config.secrets));
  if (image.snapshot &&
      (out.memory_mib != image.defaults.memory_mib || out.vcpus != image.defaults.vcpus)) {
    return sm::fail(sm::Code::kInvalidArgument,
                    "a snapshot's VMs have its " + std::to_string(image.defaults.memory_mib) +
                        " MiB of memory and " + std::to_string(image.defaults.vcpus) + " CPUs",
                    "leave them out");
  }
  if (config.start_timeout <= std::chrono::milliseconds::zero()) {
    return sm::fail(sm::Code::kInvalidArgument, "a start timeout of no time",
                    "use a positive duration");
  }
  return out;
}

// One VM: a pool of one that is closed as soon as it has given it away.
void start_one(const std::shared_ptr<const Image::Impl>& image, const VmConfig& config,
               const Done<std::shared_ptr<Vm::Impl>>& done) {
  auto pool = make_pool(image, config, limits_of_one(config), false);
  if (!pool) return done(to_public(pool.error(), Operation::kStart));
  (*pool)->acquire([image, config, pool = *pool, done](sm::Result<sm::VmLease> lease) {
    pool->close();
    if (!lease) return done(to_public(lease.error(), Operation::kStart));
    done(make_vm(image, config, std::move(*lease)));
  });
}

sm::Result<std::shared_ptr<sm::VmSource>> source_of(const Image::Impl& image,
                                                    const VmConfig& config) {
  sm::BootConfig boot = SM_TRY(boot_config(image, config));
  if (image.snapshot) return std::make_shared<sm::SnapshotSource>(std::move(boot), *image.snapshot);
  auto cache = SM_TRY(sm::SnapshotCache::open(image.context->cache_dir + "/snapshots"));
  return std::make_shared<sm::BakedSource>(std::move(boot), std::move(cache), image.kernel_digest,
                                           image.initramfs_digest, image.reference);
}

}  // namespace

sm::Result<std::shared_ptr<sm::VmPool>> make_pool(const std::shared_ptr<const Image::Impl>& image,
                                                  const VmConfig& config,
                                                  const sm::PoolLimits& limits, bool ahead) {
  const ContextPtr& context = image->context;
  std::shared_ptr<sm::VmSource> source = SM_TRY(source_of(*image, config));
  sm::VmProcess::Limits times;
  times.start = config.start_timeout;
  auto starter = std::make_unique<sm::ProcessStarter>(context->loop->loop(), std::move(source),
                                                      context->runtime_dir, times, ahead);
  return sm::VmPool::create(*context->loop, *context->gate, std::move(starter), limits);
}

std::shared_ptr<Vm::Impl> make_vm(const std::shared_ptr<const Image::Impl>& image,
                                  const VmConfig& config, sm::VmLease lease) {
  auto out = std::make_shared<Vm::Impl>();
  out->context = image->context;
  out->image = image;
  out->env = config.env;
  out->workload_claimed = out->workload_detached =
      image->snapshot && image->snapshot->image.workload;
  out->endpoint = lease.endpoint();
  out->lease = std::move(lease);
  return out;
}

void Vm::Impl::release() {
  sm::VmLease given_back;
  const std::lock_guard lock(mutex);
  given_back = std::move(lease);
  released = true;
}

std::shared_ptr<sm::VmEndpoint> Vm::Impl::target() {
  const std::lock_guard lock(mutex);
  if (!released || !pooled) return endpoint;
  auto ended = std::make_shared<sm::VmEndpoint>(endpoint->id(), "");
  ended->set_ended(sm::Error(sm::Code::kGone, "the VM was given back to its pool"));
  return ended;
}

std::shared_ptr<sm::ExecClient> Vm::Impl::workload() {
  const std::lock_guard lock(mutex);
  return workload_client.lock();
}

Vm::Vm(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Vm::Vm(Vm&&) noexcept = default;

Vm& Vm::operator=(Vm&& other) noexcept {
  if (this != &other) {
    if (impl_) impl_->release();
    impl_ = std::move(other.impl_);
  }
  return *this;
}

Vm::~Vm() {
  if (impl_) impl_->release();
}

Result<Vm> Vm::start(const Image& image, const VmConfig& config) {
  auto impl = await<std::shared_ptr<Impl>>(
      image.impl()->context,
      [&](Done<std::shared_ptr<Impl>> done) { start_one(image.impl(), config, done); });
  if (!impl) return impl.error();
  return Vm(std::move(*impl));
}

void Vm::start_async(const Image& image, const VmConfig& config,
                     std::function<void(Result<Vm>)> done) {
  const auto answer = delivered<Vm>(image.impl()->context, std::move(done));
  start_one(image.impl(), config, [answer](Result<std::shared_ptr<Impl>> impl) {
    answer(impl ? Result<Vm>(Vm(std::move(*impl))) : Result<Vm>(impl.error()));
  });
}

const std::string& Vm::id() const { return impl_->endpoint->id(); }
bool Vm::alive() const { return !impl_->target()->end(); }

Result<ExecOutcome> Vm::run(std::vector<std::string> argv) {
  return exec_builder().argv(std::move(argv)).output();
}

Result<ExecChild> Vm::exec(std::vector<std::string> argv) {
  return exec_builder().argv(std::move(argv)).spawn();
}

ExecBuilder Vm::exec_builder() {
  auto impl = std::make_unique<ExecBuilder::Impl>();
  impl->vm = impl_;
  return ExecBuilder(std::move(impl));
}

ExecBuilder Vm::workload_builder() {
  ExecBuilder out = exec_builder();
  out.impl_->request.main = true;
  return out;
}

Result<void> Vm::signal(int number) {
  const auto client = impl_->workload();
  const auto none = [] {
    return Error(ErrorCode::kInvalidState, "the VM has no workload that runs",
                 "start one with workload_builder()");
  };
  bool detached = false;
  {
    const std::lock_guard lock(impl_->mutex);
    detached = impl_->workload_detached;
  }
  if (!client && !detached) return none();
  if (!client) {
    if (number < 1 || number > static_cast<int>(sm::agent::kMaxSignal)) {
      return Error(ErrorCode::kInvalidArgument,
                   "no signal has the number " + std::to_string(number));
    }
    return await<void>(impl_->context, [&](const Done<void>& done) {
      sm::signal_main(impl_->context->loop, impl_->target(), static_cast<std::uint32_t>(number),
                      [done, none](const sm::Status& s) {
                        if (!s && s.error().code() == sm::Code::kNotFound) return done(none());
                        done(to_public(s, Operation::kExec));
                      });
    });
  }
  return await<void>(impl_->context, [&](Done<void> done) {
    client->signal(number, [done](const sm::Status& s) { done(to_public(s, Operation::kExec)); });
  });
}

namespace {

void write_file_on(const std::shared_ptr<Vm::Impl>& vm, const std::string& path,
                   std::string_view content, std::uint32_t mode, const Done<void>& done) {
  if (auto status = check_path(path); !status) return done(to_public(status, Operation::kFile));
  if (mode > 07777) {
    return done(Error(ErrorCode::kInvalidArgument, "a file mode beyond 07777"));
  }
  const auto bytes = sm::as_byte_span(content);
  on_loop<void>(vm->context, done,
                [vm, path, mode, done, data = std::vector<std::byte>(bytes.begin(), bytes.end())] {
                  sm::write_guest_file(
                      *vm->context->loop, vm->target(), path, mode, data,
                      [done](const sm::Status& s) { done(to_public(s, Operation::kFile)); });
                });
}

void read_file_on(const std::shared_ptr<Vm::Impl>& vm, const std::string& path, std::size_t limit,
                  const Done<std::string>& done) {
  if (auto status = check_path(path); !status) {
    return done(to_public(status.error(), Operation::kFile));
  }
  on_loop<std::string>(vm->context, done, [vm, path, limit, done] {
    sm::read_guest_file(*vm->context->loop, vm->target(), path, limit,
                        [done](const sm::Result<std::vector<std::byte>>& bytes) {
                          if (!bytes) return done(to_public(bytes.error(), Operation::kFile));
                          done(text_of(*bytes));
                        });
  });
}

void connect_on(const std::shared_ptr<Vm::Impl>& vm, std::uint16_t port, const Done<int>& done) {
  if (port == 0) return done(Error(ErrorCode::kInvalidArgument, "port 0 of the guest"));
  on_loop<int>(vm->context, done, [vm, port, done] {
    sm::connect_to_guest(*vm->context->loop, vm->target(), port, {},
                         [done](sm::Result<sm::UniqueFd> fd) {
                           if (!fd) return done(to_public(fd.error(), Operation::kConnect));
                           done(fd->release());
                         });
  });
}

void stop_on(const std::shared_ptr<Vm::Impl>& vm, const Done<void>& done) {
  if (!vm->pooled) vm->endpoint->when_ended([done] { done({}); });
  vm->release();
  if (vm->pooled) done({});
}

}  // namespace

Result<void> Vm::write_file(const std::string& path, std::string_view content, std::uint32_t mode) {
  return await<void>(impl_->context, [&](const Done<void>& done) {
    write_file_on(impl_, path, content, mode, done);
  });
}

void Vm::write_file_async(const std::string& path, std::string_view content, std::uint32_t mode,
                          std::function<void(Result<void>)> done) {
  write_file_on(impl_, path, content, mode, delivered<void>(impl_->context, std::move(done)));
}

Result<std::string> Vm::read_file(const std::string& path, std::size_t limit) {
  return await<std::string>(impl_->context, [&](const Done<std::string>& done) {
    read_file_on(impl_, path, limit, done);
  });
}

void Vm::read_file_async(const std::string& path, std::size_t limit,
                         std::function<void(Result<std::string>)> done) {
  read_file_on(impl_, path, limit, delivered<std::string>(impl_->context, std::move(done)));
}

Result<int> Vm::connect(std::uint16_t guest_port) {
  return await<int>(impl_->context,
                    [&](const Done<int>& done) { connect_on(impl_, guest_port, done); });
}

void Vm::connect_async(std::uint16_t guest_port, std::function<void(Result<int>)> done) {
  connect_on(impl_, guest_port, delivered<int>(impl_->context, std::move(done)));
}

Result<void> Vm::stop() {
  return await<void>(impl_->context, [&](const Done<void>& done) { stop_on(impl_, done); });
}

void Vm::stop_async(std::function<void(Result<void>)> done) {
  stop_on(impl_, delivered<void>(impl_->context, std::move(done)));
}

struct PortForward::Impl {
  Impl(ContextPtr c, std::shared_ptr<sm::PortForward> f)
      : context(std::move(c)), forward(std::move(f)) {}
  ~Impl() {
    // Refused while the context ends: then its end closes the forward.
    static_cast<void>(context->loop->post([f = forward] { f->close(); }));
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  Impl(Impl&&) = delete;
  Impl& operator=(Impl&&) = delete;

  const ContextPtr context;
  const std::shared_ptr<sm::PortForward> forward;
};

PortForward::PortForward(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PortForward::~PortForward() = default;
PortForward::PortForward(PortForward&&) noexcept = default;
PortForward& PortForward::operator=(PortForward&&) noexcept = default;
std::uint16_t PortForward::port() const { return impl_->forward->port(); }

Result<PortForward> Vm::expose_tcp(std::uint16_t host_port, std::uint16_t guest_port) {
  using Forward = std::shared_ptr<sm::PortForward>;
  auto forward = await<Forward>(impl_->context, [&](const Done<Forward>& done) {
    on_loop<Forward>(impl_->context, done, [vm = impl_, host_port, guest_port, done] {
      auto out =
          sm::PortForward::open(*vm->context->loop, vm->target(),
                                {.ip = "127.0.0.1", .first = host_port, .last = 0}, guest_port);
      if (!out) return done(to_public(out.error(), Operation::kOther));
      done(std::move(*out));
    });
  });
  if (!forward) return forward.error();
  return PortForward(std::make_unique<PortForward::Impl>(impl_->context, std::move(*forward)));
}

}  // namespace supermachine
