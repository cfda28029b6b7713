// The local APIC's timer with a clock that is set by hand: 1 ns is one bus cycle and two ticks of
// the TSC.
#include <gtest/gtest.h>

#include "vmm/cpu/soft/apic/apic_fakes.h"
#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {
namespace {

constexpr std::uint32_t kPeriodic = 1u << 17, kDeadline = 2u << 17, kMasked = 1u << 16;
constexpr std::uint32_t kLvt = 0x32, kInitial = 0x38, kCurrent = 0x39, kDivide = 0x3E;
constexpr std::uint32_t kByOne = 0xB;

class Timer : public ::testing::Test {
 protected:
  Timer() { m.enable(true); }
  void write(std::uint32_t number, std::uint32_t value) { m.write(m.apic(), number, value); }
  std::uint32_t read(std::uint32_t number) { return m.read(m.apic(), number); }
  // Lets time pass and polls, as the vCPU does.
  int after(std::uint64_t ns) {
    m.clock.now_ns += ns;
    m.apic().poll_timer();
    const int vector = m.take();
    if (vector >= 0) m.eoi();
    return vector;
  }
  FakeMachine m;
  const std::uint64_t start = m.clock.now_ns;
};

TEST_F(Timer, one_shot_expires_once) {
  write(kDivide, kByOne);
  write(kLvt, 0x40);
  write(kInitial, 1000);
  EXPECT_EQ(m.timers.deadlines[0], start + 1000);
  EXPECT_EQ(m.apic().next_deadline(), start + 1000);
  EXPECT_EQ(after(999), -1);
  EXPECT_EQ(read(kCurrent), 1u);
  EXPECT_EQ(after(1), 0x40);
  EXPECT_EQ(read(kCurrent), 0u);
  EXPECT_EQ(read(kInitial), 1000u);
  EXPECT_EQ(m.apic().next_deadline(), std::nullopt);
  EXPECT_EQ(m.timers.deadlines[0], std::nullopt);
  EXPECT_EQ(after(10'000), -1);
}

TEST_F(Timer, the_divider_stretches_the_count) {
  struct Case {
    std::uint32_t code, divisor;
  };
  const Case cases[] = {{0x0, 2},  {0x1, 4},  {0x2, 8},   {0x3, 16},
                        {0x8, 32}, {0x9, 64}, {0xA, 128}, {0xB, 1}};
  write(kLvt, 0x40);
  for (const Case& c : cases) {
    write(kDivide, c.code);
    write(kInitial, 100);
    EXPECT_EQ(*m.apic().next_deadline(), m.clock.now_ns + 100 * c.divisor) << c.code;
    m.clock.now_ns += 10 * c.divisor;
    EXPECT_EQ(read(kCurrent), 90u);
  }
}

TEST_F(Timer, a_new_divider_keeps_the_count_that_is_left) {
  write(kDivide, kByOne);
  write(kInitial, 1000);
  m.clock.now_ns += 400;
  write(kDivide, 0x3);
  EXPECT_EQ(read(kCurrent), 600u);
  EXPECT_EQ(*m.apic().next_deadline(), m.clock.now_ns + 600 * 16);
}

TEST_F(Timer, a_count_of_zero_stops_it) {
  write(kLvt, 0x40);
  write(kInitial, 1000);
  write(kInitial, 0);
  EXPECT_EQ(m.timers.deadlines[0], std::nullopt);
  EXPECT_EQ(after(1'000'000), -1);
}

TEST_F(Timer, a_masked_timer_counts_without_interrupting) {
  write(kDivide, kByOne);
  write(kLvt, 0x40 | kMasked);
  write(kInitial, 500);
  EXPECT_EQ(after(200), -1);
  EXPECT_EQ(read(kCurrent), 300u);
  EXPECT_EQ(after(300), -1);
  EXPECT_EQ(m.apic().next_deadline(), std::nullopt);
}

TEST_F(Timer, periodic_goes_on_from_its_own_deadlines) {
  write(kDivide, kByOne);
  write(kLvt, 0x40 | kPeriodic);
  write(kInitial, 1'000'000);
  EXPECT_EQ(after(1'000'400), 0x40);
  EXPECT_EQ(m.timers.deadlines[0], start + 2'000'000);
  EXPECT_EQ(read(kCurrent), 999'600u);
  EXPECT_EQ(after(999'600), 0x40);
  EXPECT_EQ(after(999'999), -1);
}

TEST_F(Timer, missed_periods_count_as_one) {
  write(kDivide, kByOne);
  write(kLvt, 0x40 | kPeriodic);
  write(kInitial, 1'000'000);
  EXPECT_EQ(after(5'500'000), 0x40);
  EXPECT_EQ(after(0), -1);
  EXPECT_EQ(m.timers.deadlines[0], start + 6'000'000);
}

TEST_F(Timer, short_periods_are_stretched) {
  write(kDivide, kByOne);
  write(kLvt, 0x40 | kPeriodic);
  write(kInitial, 1);
  EXPECT_EQ(after(1), 0x40);
  EXPECT_EQ(m.timers.deadlines[0], start + 1 + ApicTimer::kMinPeriodNs);
  EXPECT_EQ(read(kCurrent), 1u);
}

TEST_F(Timer, tsc_deadline) {
  write(kLvt, 0x40 | kDeadline);
  const std::uint64_t target = m.clock.tsc() + 2000;
  m.apic().write_tsc_deadline(target);
  EXPECT_EQ(m.apic().tsc_deadline(), target);
  EXPECT_EQ(m.timers.deadlines[0], start + 1000);
  EXPECT_EQ(read(kCurrent), 0u);
  EXPECT_EQ(after(999), -1);
  EXPECT_EQ(after(1), 0x40);
  EXPECT_EQ(m.apic().tsc_deadline(), 0u);
  EXPECT_EQ(after(1'000'000), -1);
}

TEST_F(Timer, a_deadline_in_the_past_is_due_at_once_and_wakes_nobody) {
  write(kLvt, 0x40 | kDeadline);
  m.sink.take(0);
  m.apic().write_tsc_deadline(1);
  EXPECT_EQ(m.timers.arms, 0);
  EXPECT_EQ(m.sink.take(0), kAttentionInterrupt);
  EXPECT_EQ(m.take(), 0x40);
  m.eoi();
  m.apic().write_tsc_deadline(m.clock.tsc());
  EXPECT_EQ(m.take(), 0x40);
}

TEST_F(Timer, a_deadline_of_zero_disarms) {
  write(kLvt, 0x40 | kDeadline);
  m.apic().write_tsc_deadline(m.clock.tsc() + 2000);
  m.apic().write_tsc_deadline(0);
  EXPECT_EQ(m.timers.deadlines[0], std::nullopt);
  EXPECT_EQ(after(1'000'000), -1);
}

TEST_F(Timer, a_deadline_beyond_all_time_does_not_wrap) {
  write(kLvt, 0x40 | kDeadline);
  m.apic().write_tsc_deadline(~0ull);
  EXPECT_GT(*m.apic().next_deadline(), 1ull << 62);
  EXPECT_EQ(after(1'000'000'000), -1);
}

TEST_F(Timer, the_counter_decides_when_the_nanoseconds_were_early) {
  write(kLvt, 0x40 | kDeadline);
  m.clock.tsc_ahead = 100;
  m.apic().write_tsc_deadline(m.clock.tsc() + 2000);
  m.clock.tsc_ahead = 0;
  EXPECT_EQ(after(1000), -1);
  EXPECT_EQ(m.timers.deadlines[0], m.clock.now_ns + 50);
  EXPECT_EQ(after(50), 0x40);
}

TEST_F(Timer, a_deadline_moves_with_the_counter_s_offset) {
  write(kLvt, 0x40 | kDeadline);
  m.apic().write_tsc_deadline(m.clock.tsc() + 2000);
  m.apic().set_tsc_offset(1000);
  EXPECT_EQ(m.timers.deadlines[0], start + 500);
  m.apic().set_tsc_offset(2000);
  EXPECT_EQ(m.take(), 0x40);
}

TEST_F(Timer, deadlines_and_counts_are_ignored_in_each_other_s_mode) {
  write(kLvt, 0x40);
  m.apic().write_tsc_deadline(m.clock.tsc() + 2000);
  EXPECT_EQ(m.apic().tsc_deadline(), 0u);
  EXPECT_EQ(m.apic().next_deadline(), std::nullopt);
  write(kLvt, 0x40 | kDeadline);
  write(kInitial, 1000);
  EXPECT_EQ(read(kInitial), 0u);
  EXPECT_EQ(m.apic().next_deadline(), std::nullopt);
}

TEST_F(Timer, a_change_from_or_to_deadline_mode_stops_it_any_other_does_not) {
  write(kLvt, 0x40);
  write(kInitial, 1'000'000);
  write(kLvt, 0x41 | kPeriodic);
  EXPECT_TRUE(m.apic().next_deadline());
  write(kLvt, 0x41 | kDeadline);
  EXPECT_FALSE(m.apic().next_deadline());
  EXPECT_EQ(read(kInitial), 0u);
  m.apic().write_tsc_deadline(m.clock.tsc() + 2000);
  write(kLvt, 0x41 | kDeadline | kMasked);
  EXPECT_TRUE(m.apic().next_deadline());
  write(kLvt, 0x41);
  EXPECT_FALSE(m.apic().next_deadline());
}

TEST_F(Timer, a_waiting_vcpu_keeps_its_own_deadline) {
  write(kLvt, 0x40 | kDeadline);
  m.apic().write_tsc_deadline(m.clock.tsc() + 2000);
  EXPECT_EQ(m.apic().begin_halt(), start + 1000);
  EXPECT_EQ(m.timers.deadlines[0], std::nullopt);
  m.clock.now_ns += 500;
  m.apic().end_halt();  // something else woke it
  EXPECT_EQ(m.timers.deadlines[0], start + 1000);
  EXPECT_EQ(m.take(), -1);
  EXPECT_EQ(m.apic().begin_halt(), start + 1000);
  m.clock.now_ns += 500;
  const int arms = m.timers.arms;
  m.apic().end_halt();
  EXPECT_EQ(m.timers.arms, arms);
  EXPECT_EQ(m.take(), 0x40);
}

TEST_F(Timer, a_late_post_of_an_old_deadline_does_nothing) {
  write(kLvt, 0x40 | kDeadline);
  m.apic().write_tsc_deadline(m.clock.tsc() + 2000);
  m.apic().write_tsc_deadline(m.clock.tsc() + 4000);
  EXPECT_EQ(after(1000), -1);
  EXPECT_EQ(m.timers.deadlines[0], start + 2000);
  EXPECT_EQ(after(1000), 0x40);
}

}  // namespace
}  // namespace sm::soft
