// Clock: the time that one machine's guest lives in. HostClock follows the host; VirtualClock
// counts instructions, so that a run can be repeated exactly.
// Any thread reads. Spec: SDM vol. 3, 17.17 (time-stamp counter).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace sm::soft {

class Clock {
 public:
  virtual ~Clock() = default;

  // Nanoseconds; never backwards. Deadlines are in this unit. HostClock: CLOCK_MONOTONIC.
  virtual std::uint64_t ns() const = 0;
  // The machine's time-stamp counter. A vCPU adds its offset.
  virtual std::uint64_t tsc() const = 0;
  // Nanoseconds since 1970, UTC.
  virtual std::uint64_t wall_ns() const = 0;

  // The rate of tsc(): ticks per millisecond.
  std::uint32_t tsc_khz() const { return tsc_khz_; }
  // What ns() will be `ticks` of the TSC from now, rounded up; what is too far away saturates.
  std::uint64_t ns_after(std::uint64_t ticks) const;

 protected:
  explicit Clock(std::uint32_t tsc_khz) : tsc_khz_(tsc_khz) {}
  void set_khz(std::uint32_t khz) { tsc_khz_ = khz; }

 private:
  std::uint32_t tsc_khz_;
};

// What the host counts time with.
struct HostCounter {
  bool is_tsc = false;    // else CLOCK_MONOTONIC_RAW in nanoseconds
  std::uint32_t khz = 0;  // its rate
  // The TSC if CPUID says that it is invariant, measured against CLOCK_MONOTONIC_RAW since the
  // process began. Sleeps for 2 ms at most, if that was just now or is long ago.
  static HostCounter detect();
};

class HostClock final : public Clock {
 public:
  // tsc() starts at 0, at the host counter's own rate.
  explicit HostClock(HostCounter counter);

  std::uint64_t ns() const override;
  std::uint64_t tsc() const override;
  std::uint64_t wall_ns() const override;

  // Gives tsc() another rate, for a restored guest, and lets it go on from its value. Before the
  // first vCPU runs. 0 is ignored.
  void set_tsc_khz(std::uint32_t khz);

 private:
  std::uint64_t counter() const;

  HostCounter source_;
  std::uint64_t base_;                     // of the counter
  std::uint64_t start_ = 0;                // tsc() at base_
  std::uint64_t multiplier_ = 1ull << 32;  // ticks of tsc() per tick of the counter, * 2^32
};

// Thread: whoever runs the vCPUs advances it; any thread reads.
class VirtualClock : public Clock {
 public:
  // One instruction is one tick. `wall_ns`: the date at which it starts.
  VirtualClock(std::uint32_t tsc_khz, std::uint64_t wall_ns)
      : Clock(tsc_khz), wall_start_(wall_ns) {}

  std::uint64_t ns() const override;
  std::uint64_t tsc() const override { return ticks_.load(std::memory_order_relaxed); }
  std::uint64_t wall_ns() const override { return wall_start_ + ns(); }

  void advance(std::uint64_t instructions) {
    ticks_.fetch_add(instructions, std::memory_order_relaxed);
  }
  // All vCPUs wait: the next thing that happens is at `deadline_ns`. Never backwards.
  void advance_to(std::uint64_t deadline_ns);

 private:
  std::uint64_t wall_start_;
  std::atomic<std::uint64_t> ticks_{0};
};

}  // namespace sm::soft
