#include "vmm/cpu/soft/time/kvm_clock.h"

#include <gtest/gtest.h>
#include <time.h>

#include <cmath>

namespace sm::soft {
namespace {

TEST(PvClockScale, is_exact_to_its_last_bit_for_all_rates) {
  for (const std::uint32_t khz : {1u, 1000u, 32'768u, 1'000'000u, 1'999'999u, 2'000'000u,
                                  2'596'123u, 5'000'000u, 4'294'967'295u}) {
    const PvClockScale scale = PvClockScale::of_khz(khz);
    EXPECT_GE(scale.multiplier, 1u << 31) << khz;
    const std::uint64_t day = std::uint64_t{khz} * 1000 * 86'400;
    const double error = static_cast<double>(scale.to_ns(day)) - 86'400e9;
    EXPECT_LE(error, 0) << khz;
    EXPECT_GT(error, -50'000) << khz;
  }
  EXPECT_GE(PvClockScale::of_khz(0).multiplier, 1u << 31);
}

TEST(KvmClock, the_page_is_the_machine_s_clock) {
  VirtualClock host(2'000'000, 0);
  host.advance(1'000'000);
  KvmClock clock(host);
  EXPECT_EQ(clock.ns(), 0u);
  host.advance(4'000'000);
  EXPECT_EQ(clock.ns(), 2'000'000u);
  // The same time on vCPUs with different offsets.
  for (const std::uint64_t offset : {0ull, 12345ull, 0ull - 4'999'999ull}) {
    const PvClockTime page = clock.time(offset);
    EXPECT_EQ(page.flags, kPvClockStable);
    EXPECT_EQ(KvmClock::ns_of(page, host.tsc() + offset), 2'000'000u);
  }
}

TEST(KvmClock, goes_on_from_a_value) {
  VirtualClock host(2'000'000, 0);
  KvmClock clock(host);
  host.advance(1000);
  clock.set_ns(7'000'000'000);
  host.advance(2000);
  EXPECT_EQ(clock.ns(), 7'000'001'000u);
}

TEST(KvmClock, wall_clock_is_the_date_of_zero) {
  VirtualClock host(1'000'000, 1'700'000'000'123'456'789);
  host.advance(1'000'000'000);
  KvmClock clock(host);
  host.advance(5'000'000'000);
  const PvWallClock wall = clock.wall_clock();
  EXPECT_EQ(wall.seconds, 1'700'000'001u);
  EXPECT_EQ(wall.nanoseconds, 123'456'789u);
}

TEST(KvmClock, a_page_with_impossible_factors_is_harmless) {
  for (const int shift : {-128, -64, 32, 64, 127}) {
    const PvClockTime page{
        .version = 2, .multiplier = ~0u, .shift = static_cast<std::int8_t>(shift)};
    EXPECT_EQ(KvmClock::ns_of(page, ~0ull), 0u);
  }
}

// What a guest reads from the page, against the host's clock.
TEST(KvmClock, follows_the_host_s_clock) {
  const HostClock host(HostCounter::detect());
  const KvmClock clock(host);
  const PvClockTime page = clock.time(0);
  const auto raw = [] {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC_RAW, &time);
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
  };
  double best = 1e18;
  for (int i = 0; i < 5; ++i) {
    const double start = raw();
    const auto guest_start = static_cast<double>(KvmClock::ns_of(page, host.tsc()));
    while (raw() - start < 20e6) {
    }
    const double end = raw();
    const auto guest_end = static_cast<double>(KvmClock::ns_of(page, host.tsc()));
    best = std::min(best, std::abs((guest_end - guest_start) - (end - start)));
  }
  EXPECT_LT(best, 20e6 * 100e-6);  // 100 parts per million
}

}  // namespace
}  // namespace sm::soft
