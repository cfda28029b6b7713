// Monotonic time and deadlines.
#pragma once

#include <chrono>
#include <cstdint>

namespace sm {

using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::steady_clock::time_point;

inline TimePoint now() { return std::chrono::steady_clock::now(); }

// Nanoseconds of CLOCK_MONOTONIC: comparable between processes of one machine.
inline std::uint64_t monotonic_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(now().time_since_epoch()).count());
}

// A point in time after which waiting is over.
class Deadline {
 public:
  static Deadline after(Duration d) { return Deadline(now() + d); }
  bool passed() const { return now() >= at_; }
  // Time left for poll(2): rounded up, never negative.
  int poll_timeout_ms() const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(at_ - now()).count();
    return left <= 0 ? 0 : left > 1'000'000'000 ? 1'000'000'000 : static_cast<int>(left);
  }
  TimePoint at() const { return at_; }

 private:
  explicit Deadline(TimePoint at) : at_(at) {}
  TimePoint at_;
};

}  // namespace sm
