// ApicTimer: the timer of a local APIC: one-shot, periodic, or a deadline in the guest's TSC. It
// knows when it is due; raising the interrupt is the APIC's. Thread: the vCPU's own.
// Units: counts are APIC bus cycles of 1 ns before the divider (as under KVM); times are
// Clock::ns(). Spec: SDM vol. 3, 10.5.4.
#pragma once

#include <cstdint>
#include <optional>

#include "vmm/cpu/soft/time/clock.h"
#include "vmm/cpu/soft/time/timer_queue.h"

namespace sm::soft {

class ApicTimer {
 public:
  enum class Mode : std::uint8_t { kOneShot = 0, kPeriodic = 1, kTscDeadline = 2 };

  // Limit: a guest that asks for shorter periods gets this one, so that its timer cannot keep the
  // host's timer thread busy.
  static constexpr std::uint64_t kMinPeriodNs = 100'000;

  ApicTimer(std::uint32_t vcpu, const Clock& clock, TimerQueue& timers)
      : vcpu_(vcpu), clock_(clock), timers_(timers) {}

  void reset();
  Mode mode() const { return mode_; }
  // A change from or to the deadline mode stops the timer.
  void set_mode(Mode mode);
  // The divide configuration register's value; what is left of a running count keeps its number.
  void set_divide(std::uint32_t divide_register);
  // Starts counting down, or stops with 0. Nothing in deadline mode. True: it is due already.
  bool set_initial_count(std::uint32_t count) { return start(count, count); }
  // The same from a saved current count.
  bool start(std::uint32_t initial, std::uint32_t current);
  std::uint32_t initial_count() const { return initial_; }
  std::uint32_t current_count() const;
  // Counts down, perhaps to 0 in this moment.
  bool counts() const { return running_ && mode_ != Mode::kTscDeadline; }
  // Nothing in the other modes. True: it is due already.
  bool set_tsc_deadline(std::uint64_t guest_tsc);
  std::uint64_t tsc_deadline() const { return tsc_deadline_; }
  bool set_tsc_offset(std::uint64_t offset);

  // True once for each expiry; periods that were missed count as one.
  bool take_expiry();
  std::optional<std::uint64_t> deadline_ns() const {
    return running_ ? std::optional(deadline_ns_) : std::nullopt;
  }
  // Whether the timer queue has to know of the deadline (it does not while the vCPU waits by
  // itself).
  void set_queued(bool queued);

 private:
  void arm(std::uint64_t deadline_ns, bool due);
  void disarm();
  void queue_again();
  std::uint64_t period_ns() const;
  std::uint64_t guest_tsc() const { return clock_.tsc() + tsc_offset_; }

  const std::uint32_t vcpu_;
  const Clock& clock_;
  TimerQueue& timers_;
  Mode mode_ = Mode::kOneShot;
  std::uint32_t divisor_ = 2;
  std::uint32_t initial_ = 0;  // 0 in deadline mode
  bool running_ = false;
  bool queued_ = true;
  std::uint64_t deadline_ns_ = 0;
  std::uint64_t tsc_deadline_ = 0;  // 0: none
  std::uint64_t tsc_offset_ = 0;
};

}  // namespace sm::soft
