#include "runtime/pool/vm_pool.h"

#include <utility>

namespace sm {

VmLease& VmLease::operator=(VmLease&& other) noexcept {
  if (this != &other) {
    release();
    pool_ = std::move(other.pool_);
    vm_ = other.vm_;
    endpoint_ = std::move(other.endpoint_);
  }
  return *this;
}

void VmLease::release() {
  const bool usable = endpoint_ && !endpoint_->paused();
  endpoint_.reset();
  if (const auto pool = std::exchange(pool_, nullptr)) pool->release(vm_, usable);
}

Result<std::shared_ptr<VmPool>> VmPool::create(LoopThread& loop, StartGate& gate,
                                               std::unique_ptr<VmStarter> starter,
                                               const PoolLimits& limits) {
  SM_TRY_STATUS(check_limits(limits));
  std::shared_ptr<VmPool> pool(new VmPool(loop, gate, std::move(starter), limits));
  if (!loop.post([pool] { pool->attach(); })) {
    return fail(Code::kGone, "the program that owns the pool is being closed");
  }
  return pool;
}

VmPool::VmPool(LoopThread& loop, StartGate& gate, std::unique_ptr<VmStarter> starter,
               const PoolLimits& limits)
    : loop_(loop), gate_(gate), starter_(std::move(starter)), core_(limits, now()) {}

VmPool::~VmPool() = default;

// From here on the loop keeps the pool, until detach_if_over().
void VmPool::attach() {
  hook_ = loop_.add_stop_hook([self = shared_from_this()] { self->on_loop_stop(); });
  {
    const std::lock_guard lock(mutex_);
    pump_locked();
  }
  run_actions();
}

std::optional<VmLease> VmPool::try_acquire() {
  const std::lock_guard lock(mutex_);
  if (dead_) return std::nullopt;
  const auto vm = core_.try_acquire(now());
  pump_locked();
  if (!vm) return std::nullopt;
  return lease_locked(*vm);
}

void VmPool::acquire(Done done) {
  {
    const std::lock_guard lock(mutex_);
    if (!dead_) {
      waiters_.emplace(core_.acquire(now()), std::move(done));
      pump_locked();
      return;
    }
  }
  done(fail(Code::kGone, "the pool is closed"));
}

void VmPool::close() {
  const std::lock_guard lock(mutex_);
  core_.close(now());
  pump_locked();
}

PoolStats VmPool::stats() const {
  const std::lock_guard lock(mutex_);
  return core_.stats();
}

void VmPool::release(PoolVmId vm, bool usable) {
  const std::lock_guard lock(mutex_);
  core_.release(vm, usable, now());
  pump_locked();
}

// After every change of the core: its decisions are carried out on the loop, in order.
void VmPool::pump_locked() {
  for (auto& action : core_.take_actions()) actions_.push_back(std::move(action));
  if (scheduled_ || dead_) return;
  scheduled_ = true;
  // When the loop is being stopped, its hook comes next and settles everything.
  loop_.post([self = shared_from_this()] { self->run_actions(); });
}

void VmPool::run_actions() {
  for (;;) {
    std::optional<PoolCore::Action> action;
    {
      const std::lock_guard lock(mutex_);
      if (actions_.empty()) {
        scheduled_ = false;
        break;
      }
      action = std::move(actions_.front());
      actions_.pop_front();
    }
    perform(*action);
  }
  arm_timer();
  detach_if_over();
}

void VmPool::perform(PoolCore::Action& action) {
  if (const auto* a = std::get_if<PoolCore::StartVm>(&action)) return begin_start(a->vm);
  if (const auto* a = std::get_if<PoolCore::StopVm>(&action)) return stop(a->vm);
  if (const auto* a = std::get_if<PoolCore::Grant>(&action)) return grant(*a);
  if (auto* a = std::get_if<PoolCore::Refuse>(&action)) return refuse(*a);
}

void VmPool::begin_start(PoolVmId id) {
  Entry& entry = entries_[id];
  entry.ticket = gate_.request(starter_->memory_bytes(), [this, id](std::optional<Error> refusal) {
    start_now(id, std::move(refusal));
  });
}

void VmPool::start_now(PoolVmId id, std::optional<Error> refusal) {
  Entry& entry = entries_.at(id);
  if (refusal) return on_end(id, *refusal);
  auto vm = starter_->start({.on_ready = [this, id] { on_ready(id); },
                             .on_end = [this, id](const Error& why) { on_end(id, why); }});
  if (!vm) return on_end(id, vm.error());
  entry.vm = std::move(*vm);
}

void VmPool::stop(PoolVmId id) {
  const auto it = entries_.find(id);
  if (it == entries_.end()) return;
  if (it->second.vm) return it->second.vm->stop();
  // Not even begun.
  on_end(id, Error(Code::kGone, "the VM is not wanted any more"));
}

void VmPool::on_ready(PoolVmId id) {
  Entry& entry = entries_.at(id);
  finish_start(entry);
  entry.ready = true;
  const std::lock_guard lock(mutex_);
  endpoints_.emplace(id, entry.vm->endpoint());
  core_.on_ready(id, now());
  pump_locked();
}

void VmPool::on_end(PoolVmId id, const Error& why) {
  Entry& entry = entries_.at(id);
  finish_start(entry);
  {
    const std::lock_guard lock(mutex_);
    endpoints_.erase(id);
    if (entry.ready) {
      core_.on_gone(id, now());
    } else {
      core_.on_failed(id, why, now());
    }
    pump_locked();
  }
  // The VM's own code may be below us on the stack.
  loop_.loop().post([self = shared_from_this(), id] { self->forget(id); });
}

void VmPool::finish_start(Entry& entry) {
  gate_.finish(std::exchange(entry.ticket, TicketId::kNone));
}

void VmPool::forget(PoolVmId id) {
  entries_.erase(id);
  detach_if_over();
}

void VmPool::grant(const PoolCore::Grant& grant) {
  std::optional<VmLease> lease;
  {
    const std::lock_guard lock(mutex_);
    lease = lease_locked(grant.vm);
  }
  if (const auto done = take_waiter(grant.waiter)) (*done)(std::move(*lease));
}

void VmPool::refuse(PoolCore::Refuse& refusal) {
  if (const auto done = take_waiter(refusal.waiter)) (*done)(fail(std::move(refusal.error)));
}

// A VM that died between the decision and now has no endpoint any more: its lease is of a VM that
// has ended, as one that dies a moment later would be.
VmLease VmPool::lease_locked(PoolVmId id) {
  const auto it = endpoints_.find(id);
  if (it != endpoints_.end()) return VmLease(shared_from_this(), id, it->second);
  auto ended = std::make_shared<VmEndpoint>("", "");
  ended->set_ended(Error(Code::kGone, "the VM ended while it was handed over"));
  return VmLease(shared_from_this(), id, std::move(ended));
}

std::optional<VmPool::Done> VmPool::take_waiter(WaiterId id) {
  const std::lock_guard lock(mutex_);
  auto node = waiters_.extract(id);
  if (node.empty()) return std::nullopt;
  return std::move(node.mapped());
}

void VmPool::arm_timer() {
  std::optional<TimePoint> next;
  {
    const std::lock_guard lock(mutex_);
    next = core_.next_deadline();
  }
  if (next == armed_for_) return;
  loop_.loop().cancel_timer(std::exchange(timer_, TimerId::kNone));
  armed_for_ = next;
  if (!next) return;
  timer_ = loop_.loop().add_timer(*next, [self = shared_from_this()] {
    self->armed_for_.reset();
    self->timer_ = TimerId::kNone;
    {
      const std::lock_guard lock(self->mutex_);
      self->core_.on_time(now());
      self->pump_locked();
    }
    self->run_actions();
  });
}

// Closed and without VMs: nothing can happen any more, so the loop lets go.
void VmPool::detach_if_over() {
  {
    const std::lock_guard lock(mutex_);
    if (!core_.closed()) return;
    if (starter_) starter_->close();
    if (!core_.empty() || !actions_.empty() || !entries_.empty()) return;
    // Who asks from now on is answered at once: nobody would settle it when the loop stops.
    dead_ = true;
  }
  loop_.loop().cancel_timer(std::exchange(timer_, TimerId::kNone));
  loop_.remove_stop_hook(std::exchange(hook_, HookId::kNone));
}

void VmPool::on_loop_stop() {
  std::map<WaiterId, Done> waiters;
  {
    const std::lock_guard lock(mutex_);
    dead_ = true;
    core_.close(now());
    actions_.clear();
    endpoints_.clear();
    waiters.swap(waiters_);
  }
  loop_.loop().cancel_timer(std::exchange(timer_, TimerId::kNone));
  for (auto& [id, done] : waiters) done(fail(Code::kGone, "the pool is closed"));
  for (auto& [id, entry] : entries_) finish_start(entry);
  entries_.clear();
  starter_.reset();
}

}  // namespace sm
