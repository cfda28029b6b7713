#include "runtime/pool/start_gate_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::uint64_t kMiB = 1u << 20;
constexpr TimePoint kStart{std::chrono::hours(1)};

StartLimits limits(std::size_t permits) {
  StartLimits out;
  out.permits = permits;
  out.reserve_bytes = 100 * kMiB;
  return out;
}

TEST(StartGate, so_many_start_at_a_time_in_the_order_of_their_requests) {
  StartGateCore gate(limits(2));
  const TicketId a = gate.request(kMiB, kStart);
  const TicketId b = gate.request(kMiB, kStart);
  const TicketId c = gate.request(kMiB, kStart);
  const auto first = gate.decide(kStart, std::nullopt);
  ASSERT_THAT(first, SizeIs(2));
  EXPECT_EQ(first[0].ticket, a);
  EXPECT_EQ(first[1].ticket, b);
  EXPECT_THAT(gate.decide(kStart, std::nullopt), IsEmpty());
  gate.finish(b);
  const auto second = gate.decide(kStart, std::nullopt);
  ASSERT_THAT(second, SizeIs(1));
  EXPECT_EQ(second[0].ticket, c);
  EXPECT_FALSE(gate.waiting());
}

TEST(StartGate, without_permits_there_is_no_limit) {
  StartGateCore gate(limits(0));
  for (int i = 0; i < 1000; ++i) gate.request(kMiB, kStart);
  EXPECT_THAT(gate.decide(kStart, std::nullopt), SizeIs(1000));
}

TEST(StartGate, who_has_waited_too_long_starts_all_the_same) {
  StartGateCore gate(limits(1));
  gate.request(kMiB, kStart);
  gate.request(kMiB, kStart);
  EXPECT_THAT(gate.decide(kStart, std::nullopt), SizeIs(1));
  EXPECT_EQ(gate.next_decision(), kStart + seconds(120));
  EXPECT_THAT(gate.decide(kStart + seconds(119), std::nullopt), IsEmpty());
  EXPECT_THAT(gate.decide(kStart + seconds(120), std::nullopt), SizeIs(1));
}

TEST(StartGate, request_that_nobody_wants_any_more_holds_up_no_one) {
  StartGateCore gate(limits(1));
  const TicketId first = gate.request(kMiB, kStart);
  const TicketId second = gate.request(kMiB, kStart);
  gate.finish(first);
  const auto decisions = gate.decide(kStart, std::nullopt);
  ASSERT_THAT(decisions, SizeIs(1));
  EXPECT_EQ(decisions[0].ticket, second);
}

TEST(StartGate, memory_of_those_that_are_starting_is_counted_in_full) {
  StartGateCore gate(limits(8));
  const TicketId a = gate.request(400 * kMiB, kStart);
  gate.request(400 * kMiB, kStart);
  EXPECT_THAT(gate.decide(kStart, 899 * kMiB), SizeIs(1));
  EXPECT_EQ(gate.next_decision(), kStart + milliseconds(250));
  gate.finish(a);
  EXPECT_THAT(gate.decide(kStart, 500 * kMiB), SizeIs(1));
}

TEST(StartGate, start_for_which_memory_never_comes_is_refused_with_the_figures) {
  StartGateCore gate(limits(8));
  const TicketId ticket = gate.request(400 * kMiB, kStart);
  EXPECT_THAT(gate.decide(kStart, 499 * kMiB), IsEmpty());
  EXPECT_THAT(gate.decide(kStart + seconds(9), 499 * kMiB), IsEmpty());
  const auto refused = gate.decide(kStart + seconds(10), 499 * kMiB);
  ASSERT_THAT(refused, SizeIs(1));
  EXPECT_EQ(refused[0].ticket, ticket);
  ASSERT_TRUE(refused[0].refusal.has_value());
  EXPECT_EQ(refused[0].refusal->code(), Code::kLimit);
  EXPECT_THAT(refused[0].refusal->cause(), HasSubstr("400 MiB wanted"));
  EXPECT_FALSE(gate.waiting());
}

TEST(StartGate, sizes_beyond_any_host_do_not_wrap_around) {
  StartGateCore gate(limits(8));
  gate.request(~0ull, kStart);
  gate.request(~0ull, kStart);
  EXPECT_THAT(gate.decide(kStart, ~0ull), IsEmpty());
}

}  // namespace
}  // namespace sm
