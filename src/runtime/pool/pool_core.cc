#include "runtime/pool/pool_core.h"

#include <algorithm>
#include <string>
#include <utility>

namespace sm {

namespace {

constexpr Duration kFirstRetry = std::chrono::milliseconds(100);
constexpr Duration kLastRetry = std::chrono::seconds(30);
constexpr std::size_t kMaxVms = 65536;

Duration retry_delay(std::uint32_t failures) {
  const std::uint32_t doublings = std::min(failures - 1, 16u);
  return std::min<Duration>(kFirstRetry * (1u << doublings), kLastRetry);
}

}  // namespace

Status check_limits(const PoolLimits& limits) {
  if (limits.max < 1 || limits.max > kMaxVms) {
    return fail(Code::kInvalidArgument, "a pool of at most " + std::to_string(limits.max) + " VMs",
                "use a maximum from 1 to " + std::to_string(kMaxVms));
  }
  if (limits.min > limits.max) {
    return fail(Code::kInvalidArgument,
                "a pool with a minimum of " + std::to_string(limits.min) +
                    " above its maximum of " + std::to_string(limits.max),
                "raise the maximum or lower the minimum");
  }
  if (limits.acquire_timeout < Duration::zero() ||
      (limits.idle_timeout && *limits.idle_timeout < Duration::zero())) {
    return fail(Code::kInvalidArgument, "a pool with a negative time limit",
                "use zero or a positive duration");
  }
  return {};
}

PoolCore::PoolCore(const PoolLimits& limits, TimePoint now) : limits_(limits) {
  totals_.min = limits.min;
  totals_.max = limits.max;
  start_wanted(now);
}

std::optional<PoolVmId> PoolCore::try_acquire(TimePoint now) {
  if (closed_ || idle_.empty()) return std::nullopt;
  const PoolVmId id = idle_.back();
  lease(id, vms_.at(id));
  ++totals_.acquired_warm;
  start_wanted(now);
  return id;
}

WaiterId PoolCore::acquire(TimePoint now) {
  const WaiterId waiter{next_waiter_++};
  if (closed_) {
    actions_.emplace_back(Refuse{waiter, Error(Code::kGone, "the pool is closed")});
    return waiter;
  }
  if (const auto vm = try_acquire(now)) {
    actions_.emplace_back(Grant{waiter, *vm});
    return waiter;
  }
  waiters_.push_back({waiter, now + limits_.acquire_timeout});
  start_wanted(now);
  expire_waiters(now);
  return waiter;
}

bool PoolCore::cancel(WaiterId waiter, TimePoint now) {
  const auto it = std::find_if(waiters_.begin(), waiters_.end(),
                               [&](const Waiter& w) { return w.id == waiter; });
  if (it == waiters_.end()) return false;
  waiters_.erase(it);
  start_wanted(now);
  return true;
}

void PoolCore::release(PoolVmId id, bool usable, TimePoint now) {
  const auto it = vms_.find(id);
  if (it == vms_.end() || it->second.state != State::kLeased) return;
  if (closed_ || limits_.restore_on_release || !usable) {
    stop(id, it->second);
  } else {
    make_idle(id, it->second, now);
  }
  start_wanted(now);
}

void PoolCore::on_ready(PoolVmId id, TimePoint now) {
  const auto it = vms_.find(id);
  if (it == vms_.end() || it->second.state != State::kStarting) return;
  ++totals_.started;
  failures_ = 0;
  last_failure_.clear();
  retry_at_.reset();
  make_idle(id, it->second, now);
  start_wanted(now);
}

void PoolCore::on_failed(PoolVmId id, const Error& why, TimePoint now) {
  const auto it = vms_.find(id);
  if (it == vms_.end()) return;
  const bool told_to_stop = it->second.state == State::kStopping;
  vms_.erase(it);
  if (!told_to_stop) {
    ++totals_.failed;
    ++failures_;
    last_failure_ = why.cause();
    retry_at_ = now + retry_delay(failures_);
    if (failures_ >= limits_.hopeless_after) refuse_all(why);
  }
  start_wanted(now);
}

void PoolCore::on_gone(PoolVmId id, TimePoint now) {
  const auto it = vms_.find(id);
  if (it == vms_.end()) return;
  if (it->second.state != State::kStopping) ++totals_.died;
  if (it->second.state == State::kIdle) std::erase(idle_, id);
  vms_.erase(it);
  start_wanted(now);
}

void PoolCore::on_time(TimePoint now) {
  expire_waiters(now);
  evict_idle(now);
  start_wanted(now);
}

std::optional<TimePoint> PoolCore::next_deadline() const {
  std::optional<TimePoint> next;
  const auto consider = [&](TimePoint at) { next = next ? std::min(*next, at) : at; };
  if (!waiters_.empty()) consider(waiters_.front().deadline);
  if (limits_.idle_timeout && idle_.size() > limits_.min) {
    consider(vms_.at(idle_.front()).idle_since + *limits_.idle_timeout);
  }
  if (retry_at_ && !closed_) consider(*retry_at_);
  return next;
}

void PoolCore::close(TimePoint now) {
  if (std::exchange(closed_, true)) return;
  refuse_all(Error(Code::kGone, "the pool is closed"));
  for (auto& [id, vm] : vms_) {
    if (vm.state == State::kStarting || vm.state == State::kIdle) stop(id, vm);
  }
  idle_.clear();
  start_wanted(now);
}

std::vector<PoolCore::Action> PoolCore::take_actions() { return std::exchange(actions_, {}); }

PoolStats PoolCore::stats() const {
  PoolStats out = totals_;
  out.starting = count(State::kStarting);
  out.idle = count(State::kIdle);
  out.leased = count(State::kLeased);
  out.stopping = count(State::kStopping);
  out.alive = out.starting + out.idle + out.leased;
  out.waiting = waiters_.size();
  return out;
}

std::size_t PoolCore::count(State state) const {
  return static_cast<std::size_t>(
      std::count_if(vms_.begin(), vms_.end(),
                    [state](const auto& entry) { return entry.second.state == state; }));
}

void PoolCore::lease(PoolVmId id, Vm& vm) {
  std::erase(idle_, id);
  vm.state = State::kLeased;
  ++totals_.acquired;
}

// For whoever has waited longest, else for the next who comes.
void PoolCore::make_idle(PoolVmId id, Vm& vm, TimePoint now) {
  vm.state = State::kIdle;
  vm.idle_since = now;
  expire_waiters(now);
  if (waiters_.empty()) {
    idle_.push_back(id);
    return;
  }
  actions_.emplace_back(Grant{waiters_.front().id, id});
  waiters_.pop_front();
  lease(id, vm);
}

void PoolCore::stop(PoolVmId id, Vm& vm) {
  vm.state = State::kStopping;
  actions_.emplace_back(StopVm{id});
}

// Keeps `min` idle or on their way, and one for each caller that waits.
void PoolCore::start_wanted(TimePoint now) {
  if (closed_) return;
  if (retry_at_ && now < *retry_at_) return;
  retry_at_.reset();
  const std::size_t wanted = limits_.min + waiters_.size();
  std::size_t coming = idle_.size() + count(State::kStarting);
  // After a failure one VM shows whether the reason is gone.
  if (failures_ > 0 && count(State::kStarting) > 0) return;
  while (coming < wanted && vms_.size() < limits_.max) {
    const PoolVmId id{next_vm_++};
    vms_.emplace(id, Vm{});
    actions_.emplace_back(StartVm{id});
    ++coming;
    if (failures_ > 0) return;
  }
}

void PoolCore::expire_waiters(TimePoint now) {
  while (!waiters_.empty() && waiters_.front().deadline <= now) {
    ++totals_.timed_out;
    actions_.emplace_back(Refuse{
        waiters_.front().id,
        Error(Code::kTimeout,
              "no VM of the pool became free in time (" + std::to_string(count(State::kLeased)) +
                  " leased, " + std::to_string(count(State::kStarting)) + " starting, at most " +
                  std::to_string(limits_.max) + ")" +
                  (last_failure_.empty() ? "" : "; the last start failed: " + last_failure_),
              "release VMs earlier, raise the pool's maximum or its acquire timeout")});
    waiters_.pop_front();
  }
}

void PoolCore::evict_idle(TimePoint now) {
  if (!limits_.idle_timeout) return;
  while (idle_.size() > limits_.min) {
    const PoolVmId id = idle_.front();
    Vm& vm = vms_.at(id);
    if (now < vm.idle_since + *limits_.idle_timeout) return;
    idle_.pop_front();
    stop(id, vm);
  }
}

void PoolCore::refuse_all(const Error& error) {
  for (const Waiter& waiter : std::exchange(waiters_, {})) {
    actions_.emplace_back(Refuse{waiter.id, error});
  }
}

}  // namespace sm
