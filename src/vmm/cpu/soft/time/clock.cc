#include "vmm/cpu/soft/time/clock.h"

#include <cpuid.h>
#include <time.h>
#include <x86intrin.h>

#include <limits>

namespace sm::soft {

namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t kNsPerMs = 1'000'000;

std::uint64_t read_clock(clockid_t id) {
  timespec time{};
  ::clock_gettime(id, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(time.tv_nsec);
}

// Spec: SDM vol. 3, 17.17.1.
bool tsc_is_invariant() {
  constexpr unsigned kInvariant = 1u << 8;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && (d & kInvariant) != 0;
}

struct Pair {
  std::uint64_t tsc = 0;
  std::uint64_t ns = 0;
};

// Both at one moment: of several readings the one that took the shortest time.
Pair read_pair() {
  constexpr int kReadings = 16;
  Pair best;
  std::uint64_t shortest = std::numeric_limits<std::uint64_t>::max();
  for (int i = 0; i < kReadings; ++i) {
    const std::uint64_t before = __rdtsc();
    const std::uint64_t ns = read_clock(CLOCK_MONOTONIC_RAW);
    const std::uint64_t took = __rdtsc() - before;
    if (took >= shortest) continue;
    shortest = took;
    best = {.tsc = before + took / 2, .ns = ns};
  }
  return best;
}

// Read before main(), so that what a program does until it needs the rate counts for the
// measurement.
const Pair kFirst = read_pair();

std::uint32_t measure_khz() {
  constexpr std::uint64_t kLongEnough = 2'000'000, kTooLong = 1'000'000'000;
  Pair first = kFirst, last = read_pair();
  // The two may have parted meanwhile: the host was asleep, or moved to another.
  if (last.ns - first.ns > kTooLong) first = last;
  if (last.ns - first.ns < kLongEnough) {
    timespec rest{.tv_sec = 0, .tv_nsec = static_cast<long>(kLongEnough - (last.ns - first.ns))};
    ::nanosleep(&rest, nullptr);
    last = read_pair();
  }
  if (last.ns <= first.ns || last.tsc <= first.tsc) return 0;
  const Wide khz = Wide{last.tsc - first.tsc} * kNsPerMs / (last.ns - first.ns);
  return khz > std::numeric_limits<std::uint32_t>::max() ? 0 : static_cast<std::uint32_t>(khz);
}

// The exact rate, where processor or hypervisor tell it: then the host's kernel counts by it too.
// Spec: SDM vol. 2, CPUID leaf 15H; leaf 40000010H is the hypervisors' own convention.
std::uint32_t announced_khz() {
  constexpr unsigned kHypervisorTiming = 0x40000010;
  unsigned a = 0, b = 0, c = 0, d = 0;
  __cpuid(1, a, b, c, d);
  if ((c >> 31) != 0) {
    __cpuid(0x40000000, a, b, c, d);
    if (a >= kHypervisorTiming && a < kHypervisorTiming + 0x100) {
      __cpuid(kHypervisorTiming, a, b, c, d);
      if (a != 0) return a;
    }
  }
  if (__get_cpuid(0x15, &a, &b, &c, &d) == 0 || a == 0 || b == 0 || c == 0) return 0;
  return static_cast<std::uint32_t>(std::uint64_t{c} * b / a / 1000);
}

bool nearly_equal(std::uint64_t a, std::uint64_t b) {
  constexpr std::uint64_t kPartsPerMillion = 50;  // what a short measurement may be off
  const std::uint64_t difference = a > b ? a - b : b - a;
  return difference * 1'000'000 <= a * kPartsPerMillion;
}

}  // namespace

std::uint64_t Clock::ns_after(std::uint64_t ticks) const {
  const std::uint32_t khz = tsc_khz();
  const Wide wait = (Wide{ticks} * kNsPerMs + khz - 1) / khz;
  const Wide sum = wait + ns();
  constexpr std::uint64_t kLast = std::numeric_limits<std::uint64_t>::max() - 1;
  return sum > kLast ? kLast : static_cast<std::uint64_t>(sum);
}

HostCounter HostCounter::detect() {
  constexpr std::uint32_t kSlowest = 100'000, kFastest = 20'000'000;
  constexpr HostCounter kNanoseconds{.is_tsc = false, .khz = 1'000'000};
  if (!tsc_is_invariant()) return kNanoseconds;
  const std::uint32_t measured = measure_khz();
  if (measured < kSlowest || measured > kFastest) return kNanoseconds;
  const std::uint32_t announced = announced_khz();
  return {.is_tsc = true, .khz = nearly_equal(measured, announced) ? announced : measured};
}

HostClock::HostClock(HostCounter counter)
    : Clock(counter.khz), source_(counter), base_(HostClock::counter()) {}

std::uint64_t HostClock::counter() const {
  return source_.is_tsc ? __rdtsc() : read_clock(CLOCK_MONOTONIC_RAW);
}

std::uint64_t HostClock::ns() const { return read_clock(CLOCK_MONOTONIC); }

// Another core's counter may be a few ticks behind the one that base_ was read from.
std::uint64_t HostClock::tsc() const {
  const std::uint64_t now = counter();
  const std::uint64_t passed = now > base_ ? now - base_ : 0;
  return start_ + static_cast<std::uint64_t>((Wide{passed} * multiplier_) >> 32);
}

std::uint64_t HostClock::wall_ns() const { return read_clock(CLOCK_REALTIME); }

void HostClock::set_tsc_khz(std::uint32_t khz) {
  if (khz == 0 || khz == tsc_khz()) return;
  start_ = tsc();
  base_ = counter();
  // Below 2^64, since the host's rate is at least 2^16 kHz and `khz` has 32 bits.
  multiplier_ = static_cast<std::uint64_t>((Wide{khz} << 32) / source_.khz);
  set_khz(khz);
}

std::uint64_t VirtualClock::ns() const {
  return static_cast<std::uint64_t>(Wide{tsc()} * kNsPerMs / tsc_khz());
}

void VirtualClock::advance_to(std::uint64_t deadline_ns) {
  const auto target =
      static_cast<std::uint64_t>((Wide{deadline_ns} * tsc_khz() + kNsPerMs - 1) / kNsPerMs);
  const std::uint64_t present = tsc();
  if (target > present) advance(target - present);
}

}  // namespace sm::soft
