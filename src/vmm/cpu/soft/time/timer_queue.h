// TimerQueue: one deadline per vCPU; when it is over the vCPU hears of it by kAttentionTimer.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "vmm/cpu/engine.h"

namespace sm::soft {

class TimerQueue {
 public:
  virtual ~TimerQueue() = default;
  // In Clock::ns(); replaces an earlier one. A deadline that has passed is due at once. The vCPU's
  // own thread. A late post may still follow a cancel() or a new deadline: whoever gets it looks at
  // the clock.
  virtual void arm(std::uint32_t vcpu, std::uint64_t deadline_ns) = 0;
  virtual void cancel(std::uint32_t vcpu) = 0;
};

// For a VirtualClock: nobody is told; the one thread that runs all vCPUs asks for the next
// deadline.
class PolledTimers final : public TimerQueue {
 public:
  PolledTimers() { deadlines_.fill(kNever); }
  void arm(std::uint32_t vcpu, std::uint64_t deadline_ns) override {
    if (vcpu < deadlines_.size()) deadlines_[vcpu] = deadline_ns;
  }
  void cancel(std::uint32_t vcpu) override { arm(vcpu, kNever); }
  std::optional<std::uint64_t> next() const {
    const std::uint64_t first = *std::min_element(deadlines_.begin(), deadlines_.end());
    return first == kNever ? std::nullopt : std::optional(first);
  }

 private:
  static constexpr std::uint64_t kNever = ~0ull;
  std::array<std::uint64_t, kMaxVcpus> deadlines_{};
};

}  // namespace sm::soft
