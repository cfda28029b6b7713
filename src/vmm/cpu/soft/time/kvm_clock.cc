#include "vmm/cpu/soft/time/kvm_clock.h"

#include <algorithm>

namespace sm::soft {

namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t kNsPerSecond = 1'000'000'000;

}  // namespace

// The multiplier uses all of its 32 bits: rounding costs less than 50 microseconds a day.
PvClockScale PvClockScale::of_khz(std::uint32_t khz) {
  const std::uint64_t hz = std::uint64_t{std::max(khz, 1u)} * 1000;
  int shift = 0;
  const auto multiplier = [&] { return (Wide{kNsPerSecond} << (32 - shift)) / hz; };
  while (multiplier() >> 32 != 0) ++shift;
  while (multiplier() >> 31 == 0) --shift;
  return {.multiplier = static_cast<std::uint32_t>(multiplier()),
          .shift = static_cast<std::int8_t>(shift)};
}

std::uint64_t PvClockScale::to_ns(std::uint64_t ticks) const {
  const std::uint64_t shifted = shift < 0 ? ticks >> -shift : ticks << shift;
  return static_cast<std::uint64_t>((Wide{shifted} * multiplier) >> 32);
}

KvmClock::KvmClock(const Clock& clock) : clock_(clock) { set_ns(0); }

PvClockTime KvmClock::time(std::uint64_t tsc_offset) const {
  PvClockTime page;
  page.tsc_timestamp = tsc_ + tsc_offset;
  page.system_time = ns_;
  page.multiplier = scale_.multiplier;
  page.shift = scale_.shift;
  page.flags = kPvClockStable;
  return page;
}

PvWallClock KvmClock::wall_clock() const {
  const std::uint64_t start = clock_.wall_ns() - ns();
  return {.version = 0,
          .seconds = static_cast<std::uint32_t>(start / kNsPerSecond),
          .nanoseconds = static_cast<std::uint32_t>(start % kNsPerSecond)};
}

void KvmClock::set_ns_at(std::uint64_t tsc, std::uint64_t ns) {
  scale_ = PvClockScale::of_khz(clock_.tsc_khz());
  tsc_ = tsc;
  ns_ = ns;
}

std::uint64_t KvmClock::ns_of(const PvClockTime& page, std::uint64_t guest_tsc) {
  constexpr int kLargestShift = 31;
  if (page.shift < -kLargestShift || page.shift > kLargestShift) return 0;  // guest-controlled
  const PvClockScale scale{.multiplier = page.multiplier, .shift = page.shift};
  return page.system_time + scale.to_ns(guest_tsc - page.tsc_timestamp);
}

}  // namespace sm::soft
