#include "vmm/cpu/soft/apic/apic_timer.h"

#include <algorithm>
#include <limits>

namespace sm::soft {

namespace {

// Spec: SDM vol. 3, figure 10-10: bits 0, 1 and 3 of the divide configuration register, 0 = by 2,
// 7 = by 1.
std::uint32_t divisor_of(std::uint32_t divide_register) {
  const std::uint32_t code = (divide_register & 3) | ((divide_register >> 1) & 4);
  return 1u << ((code + 1) & 7);
}

}  // namespace

void ApicTimer::reset() {
  disarm();
  mode_ = Mode::kOneShot;
  divisor_ = divisor_of(0);
  initial_ = 0;
}

void ApicTimer::set_mode(Mode mode) {
  if (mode == mode_) return;
  if (mode == Mode::kTscDeadline || mode_ == Mode::kTscDeadline) {
    disarm();
    initial_ = 0;
  }
  mode_ = mode;
}

void ApicTimer::set_divide(std::uint32_t divide_register) {
  const std::uint32_t current = current_count();
  divisor_ = divisor_of(divide_register);
  // What has run out and was not looked at is about to.
  if (counts()) start(initial_, std::max(current, 1u));
}

// An expired one-shot count stays expired.
bool ApicTimer::start(std::uint32_t initial, std::uint32_t current) {
  if (mode_ == Mode::kTscDeadline) return false;
  initial_ = initial;
  if (initial == 0 || (current == 0 && mode_ == Mode::kOneShot)) {
    disarm();
    return false;
  }
  const bool due = current == 0;
  arm(clock_.ns() + std::uint64_t{std::min(current, initial)} * divisor_, due);
  return due;
}

std::uint64_t ApicTimer::period_ns() const {
  return std::max(std::uint64_t{initial_} * divisor_, kMinPeriodNs);
}

std::uint32_t ApicTimer::current_count() const {
  if (!counts()) return 0;
  const std::uint64_t now = clock_.ns();
  std::uint64_t left = 0;
  if (deadline_ns_ > now) {
    left = deadline_ns_ - now;
  } else if (mode_ == Mode::kPeriodic) {
    left = period_ns() - (now - deadline_ns_) % period_ns();
  }
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>((left + divisor_ - 1) / divisor_, initial_));
}

bool ApicTimer::set_tsc_deadline(std::uint64_t guest_tsc_target) {
  if (mode_ != Mode::kTscDeadline) return false;
  tsc_deadline_ = guest_tsc_target;
  if (guest_tsc_target == 0) {
    disarm();
    return false;
  }
  const std::uint64_t present = guest_tsc();
  const bool due = guest_tsc_target <= present;
  arm(clock_.ns_after(due ? 0 : guest_tsc_target - present), due);
  return due;
}

bool ApicTimer::set_tsc_offset(std::uint64_t offset) {
  tsc_offset_ = offset;
  return tsc_deadline_ != 0 && set_tsc_deadline(tsc_deadline_);
}

bool ApicTimer::take_expiry() {
  if (!running_) return false;
  const std::uint64_t now = clock_.ns();
  const bool due = mode_ == Mode::kTscDeadline ? guest_tsc() >= tsc_deadline_ : now >= deadline_ns_;
  if (!due) {
    queue_again();
    return false;
  }
  if (mode_ == Mode::kPeriodic) {
    const std::uint64_t period = period_ns();
    arm(deadline_ns_ + ((now - deadline_ns_) / period + 1) * period, false);
  } else {
    disarm();
  }
  return true;
}

void ApicTimer::set_queued(bool queued) {
  if (queued == queued_) return;
  queued_ = queued;
  if (!running_) return;
  if (queued) {
    timers_.arm(vcpu_, deadline_ns_);
  } else {
    timers_.cancel(vcpu_);
  }
}

// A timer that is due is for the caller to look at; nobody needs to be woken for it.
void ApicTimer::arm(std::uint64_t deadline_ns, bool due) {
  running_ = true;
  deadline_ns_ = deadline_ns;
  if (queued_ && !due) timers_.arm(vcpu_, deadline_ns);
}

void ApicTimer::disarm() {
  if (running_ && queued_) timers_.cancel(vcpu_);
  running_ = false;
  tsc_deadline_ = 0;
}

// The deadline in nanoseconds was a little early for the counter: the rest is computed afresh.
void ApicTimer::queue_again() {
  if (mode_ == Mode::kTscDeadline) {
    const std::uint64_t present = guest_tsc();
    deadline_ns_ = clock_.ns_after(tsc_deadline_ > present ? tsc_deadline_ - present : 0);
  }
  if (queued_) timers_.arm(vcpu_, deadline_ns_);
}

}  // namespace sm::soft
