// KvmClock: the paravirtual clock of a machine, in the formats of KVM's MSRs 0x4b564d00 and
// 0x4b564d01. Its line (TSC -> nanoseconds) is drawn once per machine and is the same on every
// vCPU, so the pages are written when the guest asks for them and stay right. Thread: one vCPU at a
// time for changes (before the guest runs); any thread reads.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/time/clock.h"

namespace sm::soft {

// One vCPU's time, read by the guest under a version protocol: odd while it is being written.
// ns = system_time + ((tsc - tsc_timestamp) << shift) * multiplier >> 32
struct PvClockTime {
  std::uint32_t version = 0;
  std::uint32_t padding = 0;
  std::uint64_t tsc_timestamp = 0;
  std::uint64_t system_time = 0;
  std::uint32_t multiplier = 0;
  std::int8_t shift = 0;
  std::uint8_t flags = 0;
  std::uint8_t padding2[2] = {};
};
static_assert(sizeof(PvClockTime) == 32);

inline constexpr std::uint8_t kPvClockStable = 1;  // comparable between vCPUs

struct PvWallClock {  // the date at which the clock was 0
  std::uint32_t version = 0;
  std::uint32_t seconds = 0;
  std::uint32_t nanoseconds = 0;
};
static_assert(sizeof(PvWallClock) == 12);

// The factors of PvClockTime for a counter of `khz`.
struct PvClockScale {
  std::uint32_t multiplier = 0;
  std::int8_t shift = 0;
  static PvClockScale of_khz(std::uint32_t khz);
  std::uint64_t to_ns(std::uint64_t ticks) const;
};

class KvmClock {
 public:
  // Starts at 0 now.
  explicit KvmClock(const Clock& clock);

  std::uint64_t ns() const { return ns_at(clock_.tsc()); }
  // At a value of the machine's counter that is not before its line was drawn.
  std::uint64_t ns_at(std::uint64_t tsc) const { return ns_ + scale_.to_ns(tsc - tsc_); }
  // What a vCPU whose TSC is Clock::tsc() + `tsc_offset` sees; version 0.
  PvClockTime time(std::uint64_t tsc_offset) const;
  PvWallClock wall_clock() const;

  // Goes on from `ns` now, at the clock's present rate: for a restored machine.
  void set_ns(std::uint64_t ns) { set_ns_at(clock_.tsc(), ns); }
  // The same, where `ns` is the time at a value of the counter.
  void set_ns_at(std::uint64_t tsc, std::uint64_t ns);
  // What a page that a guest has used says for `guest_tsc`.
  static std::uint64_t ns_of(const PvClockTime& page, std::uint64_t guest_tsc);

 private:
  const Clock& clock_;
  PvClockScale scale_;
  std::uint64_t tsc_ = 0;
  std::uint64_t ns_ = 0;
};

}  // namespace sm::soft
