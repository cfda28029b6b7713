#include "vmm/cpu/soft/time/clock.h"

#include <gtest/gtest.h>
#include <time.h>

#include <thread>
#include <vector>

#include "base/clock.h"

namespace sm::soft {
namespace {

// Waits until the clock has gone on by `ns`.
void let_pass(const Clock& clock, std::uint64_t ns) {
  const std::uint64_t until = clock.ns() + ns;
  while (clock.ns() < until) {
  }
}

std::uint64_t raw_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC_RAW, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(time.tv_nsec);
}

// The part of `clock`'s TSC rate that is wrong, in parts per million, against CLOCK_MONOTONIC_RAW.
// Of several tries the best: the process may lose its processor between two readings.
double best_error_ppm(const Clock& clock) {
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const std::uint64_t ns0 = raw_ns(), tsc0 = clock.tsc();
    let_pass(clock, 20'000'000);
    const std::uint64_t ns1 = raw_ns(), tsc1 = clock.tsc();
    const double khz = static_cast<double>(tsc1 - tsc0) * 1e6 / static_cast<double>(ns1 - ns0);
    best = std::min(best, std::abs(khz / clock.tsc_khz() - 1) * 1e6);
  }
  return best;
}

TEST(HostClock, the_rate_is_measured_well) {
  const HostClock clock(HostCounter::detect());
  EXPECT_LT(best_error_ppm(clock), 100);
}

TEST(HostClock, nanoseconds_serve_where_the_tsc_does_not) {
  const HostClock clock({.is_tsc = false, .khz = 1'000'000});
  EXPECT_EQ(clock.tsc_khz(), 1'000'000u);
  EXPECT_LT(best_error_ppm(clock), 100);
}

TEST(HostClock, starts_at_zero_and_uses_clock_monotonic) {
  const std::uint64_t before = monotonic_ns();
  const HostClock clock(HostCounter::detect());
  EXPECT_LT(clock.tsc(), std::uint64_t{clock.tsc_khz()} * 1000);
  const std::uint64_t between = clock.ns();
  EXPECT_GE(between, before);
  EXPECT_LE(between, monotonic_ns());
}

TEST(HostClock, another_rate_goes_on_from_the_present_value) {
  HostClock clock(HostCounter::detect());
  const std::uint32_t wanted = clock.tsc_khz() / 3 * 2;
  let_pass(clock, 1'000'000);
  const std::uint64_t before = clock.tsc();
  clock.set_tsc_khz(wanted);
  EXPECT_GE(clock.tsc(), before);
  EXPECT_LT(clock.tsc(), before + std::uint64_t{wanted} * 1000);
  EXPECT_EQ(clock.tsc_khz(), wanted);
  EXPECT_LT(best_error_ppm(clock), 100);
  clock.set_tsc_khz(0);
  EXPECT_EQ(clock.tsc_khz(), wanted);
}

TEST(HostClock, never_goes_backwards_between_threads) {
  const HostClock clock(HostCounter::detect());
  std::vector<std::jthread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      std::uint64_t last = clock.tsc();
      for (int i = 0; i < 200'000; ++i) {
        const std::uint64_t now = clock.tsc();
        ASSERT_GE(now, last);
        last = now;
      }
    });
  }
}

TEST(HostClock, ns_after_is_where_the_counter_arrives) {
  const HostClock clock(HostCounter::detect());
  const std::uint64_t khz = clock.tsc_khz();
  const std::uint64_t before = clock.ns();
  const std::uint64_t at = clock.ns_after(khz * 5);
  EXPECT_GE(at, before + 5'000'000);
  EXPECT_LE(at, clock.ns() + 5'000'000 + 1);
  EXPECT_EQ(clock.ns_after(~0ull) > 1ull << 60, true);
}

TEST(VirtualClock, counts_instructions) {
  VirtualClock clock(2'000'000, 1'000'000'000'000);
  EXPECT_EQ(clock.ns(), 0u);
  clock.advance(3000);
  EXPECT_EQ(clock.tsc(), 3000u);
  EXPECT_EQ(clock.ns(), 1500u);
  EXPECT_EQ(clock.wall_ns(), 1'000'000'001'500u);
  EXPECT_EQ(clock.ns_after(2000), 2500u);
  EXPECT_EQ(clock.ns_after(2001), 2501u);
}

TEST(VirtualClock, jumps_to_a_deadline_and_never_back) {
  VirtualClock clock(3'000'001, 0);
  clock.advance_to(1'000'000'007);
  EXPECT_GE(clock.ns(), 1'000'000'007u);
  EXPECT_LT(clock.ns(), 1'000'000'009u);
  const std::uint64_t tsc = clock.tsc();
  clock.advance_to(5);
  EXPECT_EQ(clock.tsc(), tsc);
}

// At the nanosecond that ns_after() names, the counter has arrived.
TEST(VirtualClock, a_deadline_is_never_early) {
  for (const std::uint32_t khz : {1u, 999'983u, 2'000'000u, 2'596'123u, 4'294'967'295u}) {
    VirtualClock clock(khz, 0);
    for (std::uint64_t ticks : {1ull, 7ull, 1000ull, 123'456'789ull}) {
      const std::uint64_t target = clock.tsc() + ticks;
      clock.advance_to(clock.ns_after(ticks) + 1);
      EXPECT_GE(clock.tsc(), target) << khz << " " << ticks;
    }
  }
}

}  // namespace
}  // namespace sm::soft
