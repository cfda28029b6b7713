#include "vmm/virtio/vsock/credit.h"

#include <gtest/gtest.h>

namespace sm {
namespace {

TEST(VsockSendCredit, nothing_may_be_sent_before_the_guest_grants_it) {
  EXPECT_EQ(VsockSendCredit().available(), 0u);
}

TEST(VsockSendCredit, sent_bytes_use_it_and_forwarded_bytes_return_it) {
  VsockSendCredit credit;
  credit.update(100, 0);
  credit.sent(60);
  EXPECT_EQ(credit.available(), 40u);
  credit.update(100, 50);
  EXPECT_EQ(credit.available(), 90u);
}

TEST(VsockSendCredit, shrunk_buffer_means_none_until_enough_is_forwarded) {
  VsockSendCredit credit;
  credit.update(100, 0);
  credit.sent(80);
  credit.update(50, 0);
  EXPECT_EQ(credit.available(), 0u);
  credit.update(50, 40);
  EXPECT_EQ(credit.available(), 10u);
}

TEST(VsockSendCredit, count_ahead_of_what_was_sent_is_not_believed) {
  VsockSendCredit credit;
  credit.update(100, 0);
  credit.sent(10);
  credit.update(100, 11);
  EXPECT_EQ(credit.available(), 90u);
  credit.update(100, 0xFFFF'FFFF);
  EXPECT_EQ(credit.available(), 90u);
  EXPECT_EQ(credit.in_flight(), 10u);
}

TEST(VsockSendCredit, overtaken_older_count_changes_nothing) {
  VsockSendCredit credit;
  credit.update(100, 0);
  credit.sent(50);
  credit.update(100, 40);
  credit.update(100, 20);
  EXPECT_EQ(credit.available(), 90u);
}

TEST(VsockSendCredit, counters_wrap) {
  VsockSendCredit credit;
  constexpr std::uint32_t kStep = 0x4000'0000;
  std::uint32_t forwarded = 0;
  for (int i = 0; i < 9; ++i) {
    credit.update(kStep, forwarded);
    EXPECT_EQ(credit.available(), kStep);
    credit.sent(kStep);
    EXPECT_EQ(credit.available(), 0u);
    forwarded += kStep;
  }
}

TEST(VsockSendCredit, largest_buffer_never_lets_the_count_wrap) {
  VsockSendCredit credit;
  credit.update(0xFFFF'FFFF, 0);
  credit.sent(0xFFFF'FFFF);
  EXPECT_EQ(credit.available(), 0u);
  EXPECT_EQ(credit.in_flight(), 0xFFFF'FFFF);
}

TEST(VsockReceiveCredit, admits_exactly_the_buffer) {
  VsockReceiveCredit credit(100);
  EXPECT_TRUE(credit.admit(60));
  EXPECT_FALSE(credit.admit(41));
  EXPECT_TRUE(credit.admit(40));
  EXPECT_FALSE(credit.admit(1));
  EXPECT_TRUE(credit.admit(0));
  credit.forward(10);
  EXPECT_TRUE(credit.admit(10));
  EXPECT_FALSE(credit.admit(1));
}

TEST(VsockReceiveCredit, update_is_due_when_a_quarter_is_free_and_untold) {
  VsockReceiveCredit credit(100);
  EXPECT_TRUE(credit.admit(100));
  credit.forward(24);
  EXPECT_FALSE(credit.update_due());
  credit.forward(1);
  EXPECT_TRUE(credit.update_due());
  EXPECT_EQ(credit.announce(), 25u);
  EXPECT_FALSE(credit.update_due());
}

TEST(VsockReceiveCredit, counters_wrap) {
  VsockReceiveCredit credit(64u << 10);
  for (int i = 0; i < 70'000; ++i) {
    ASSERT_TRUE(credit.admit(64u << 10));
    ASSERT_FALSE(credit.admit(1));
    credit.forward(64u << 10);
  }
}

}  // namespace
}  // namespace sm
