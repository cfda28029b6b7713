#include <supermachine/pool.h>

#include <algorithm>
#include <utility>

#include "api/errors.h"
#include "api/vm_impl.h"

namespace supermachine {

struct PoolBuilder::Impl {
  std::shared_ptr<const Image::Impl> image;
  sm::PoolLimits limits;
  bool max_given = false;
  VmConfig config;
};

struct Pool::Impl {
  Impl(std::shared_ptr<const Image::Impl> i, VmConfig c, std::shared_ptr<sm::VmPool> p)
      : image(std::move(i)), config(std::move(c)), pool(std::move(p)) {}
  ~Impl() { pool->close(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  Impl(Impl&&) = delete;
  Impl& operator=(Impl&&) = delete;

  const std::shared_ptr<const Image::Impl> image;
  const VmConfig config;
  const std::shared_ptr<sm::VmPool> pool;
};

PooledVm::PooledVm(Vm vm) : vm_(std::move(vm)) {}
PooledVm::~PooledVm() = default;
PooledVm::PooledVm(PooledVm&&) noexcept = default;
PooledVm& PooledVm::operator=(PooledVm&&) noexcept = default;
void PooledVm::release() { vm_.impl_->release(); }

PoolBuilder::PoolBuilder(const Image& image) : impl_(std::make_unique<Impl>()) {
  impl_->image = image.impl();
}
PoolBuilder::~PoolBuilder() = default;
PoolBuilder::PoolBuilder(PoolBuilder&&) noexcept = default;
PoolBuilder& PoolBuilder::operator=(PoolBuilder&&) noexcept = default;

PoolBuilder& PoolBuilder::min(std::size_t n) {
  impl_->limits.min = n;
  return *this;
}

PoolBuilder& PoolBuilder::max(std::size_t n) {
  impl_->limits.max = n;
  impl_->max_given = true;
  return *this;
}

PoolBuilder& PoolBuilder::idle_timeout(std::optional<std::chrono::milliseconds> limit) {
  impl_->limits.idle_timeout.reset();
  if (limit) impl_->limits.idle_timeout = *limit;
  return *this;
}

PoolBuilder& PoolBuilder::acquire_timeout(std::chrono::milliseconds limit) {
  impl_->limits.acquire_timeout = limit;
  return *this;
}

PoolBuilder& PoolBuilder::restore_on_release(bool on) {
  impl_->limits.restore_on_release = on;
  return *this;
}

PoolBuilder& PoolBuilder::config(const VmConfig& config) {
  impl_->config = config;
  return *this;
}

Result<Pool> PoolBuilder::build() {
  sm::PoolLimits limits = impl_->limits;
  if (!impl_->max_given) limits.max = std::max<std::size_t>(limits.min, 1);
  auto pool = make_pool(impl_->image, impl_->config, limits, true);
  if (!pool) return to_public(pool.error(), Operation::kAcquire);
  return Pool(std::make_unique<Pool::Impl>(impl_->image, impl_->config, std::move(*pool)));
}

Pool::Pool(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Pool::~Pool() = default;
Pool::Pool(Pool&&) noexcept = default;
Pool& Pool::operator=(Pool&&) noexcept = default;

namespace {
using VmPtr = std::shared_ptr<Vm::Impl>;

VmPtr make_pooled(const std::shared_ptr<const Image::Impl>& image, const VmConfig& config,
                  sm::VmLease lease) {
  VmPtr out = make_vm(image, config, std::move(lease));
  out->pooled = true;
  return out;
}

void acquire_on(const std::shared_ptr<const Image::Impl>& image, const VmConfig& config,
                sm::VmPool& pool, const Done<VmPtr>& done) {
  pool.acquire([image, config, done](sm::Result<sm::VmLease> lease) {
    if (!lease) return done(to_public(lease.error(), Operation::kAcquire));
    done(make_pooled(image, config, std::move(*lease)));
  });
}
}  // namespace

Result<PooledVm> Pool::acquire() {
  // A VM that is ready needs no other thread.
  if (auto lease = impl_->pool->try_acquire()) {
    return PooledVm(Vm(make_pooled(impl_->image, impl_->config, std::move(*lease))));
  }
  auto vm = await<VmPtr>(impl_->image->context, [&](const Done<VmPtr>& done) {
    acquire_on(impl_->image, impl_->config, *impl_->pool, done);
  });
  if (!vm) return vm.error();
  return PooledVm(Vm(std::move(*vm)));
}

void Pool::acquire_async(std::function<void(Result<PooledVm>)> done) {
  const auto answer = delivered<PooledVm>(impl_->image->context, std::move(done));
  const auto to_user = [answer](Result<VmPtr> vm) {
    if (!vm) return answer(vm.error());
    answer(PooledVm(Vm(std::move(*vm))));
  };
  acquire_on(impl_->image, impl_->config, *impl_->pool, to_user);
}

PoolStats Pool::stats() const {
  const sm::PoolStats s = impl_->pool->stats();
  PoolStats out;
  out.alive = s.alive;
  out.starting = s.starting;
  out.idle = s.idle;
  out.leased = s.leased;
  out.stopping = s.stopping;
  out.waiting = s.waiting;
  out.min = s.min;
  out.max = s.max;
  out.acquired = s.acquired;
  out.acquired_warm = s.acquired_warm;
  out.timed_out = s.timed_out;
  out.died = s.died;
  out.failed = s.failed;
  return out;
}

}  // namespace supermachine
