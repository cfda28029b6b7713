// How connections end: half close, full close, reset and timeout, from either side.
#include <gtest/gtest.h>

#include "vmm/virtio/vsock/guest_fake.h"

namespace sm {
namespace {

using namespace std::chrono_literals;
using test::GuestFake;
using test::open_from_guest;
using test::open_to_guest;
using test::Opened;
using test::pattern;
using test::read_host;
using test::socket_pair;
using test::write_host;

bool reader_gone(const UniqueFd& fd) {
  return ::send(fd.get(), "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EPIPE;
}

TEST(VsockClose, guest_ends_sending_and_still_receives) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  guest.write(*c.guest, "last words");
  guest.shutdown(*c.guest, kVsockNoSend);
  const auto got = read_host(c.host);
  EXPECT_EQ(got.bytes, "last words");
  EXPECT_TRUE(got.end);
  write_host(c.host, "answer");
  EXPECT_TRUE(guest.run_until([&] { return c.guest->received == "answer"; }));
  EXPECT_FALSE(c.guest->reset);
}

TEST(VsockClose, host_ends_sending_and_still_receives) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  write_host(c.host, "request");
  ::shutdown(c.host.get(), SHUT_WR);
  ASSERT_TRUE(guest.run_until([&] { return c.guest->host_shutdown != 0; }));
  EXPECT_EQ(c.guest->received, "request");
  EXPECT_EQ(c.guest->host_shutdown, kVsockNoSend);
  guest.write(*c.guest, "answer");
  EXPECT_EQ(read_host(c.host).bytes, "answer");
  EXPECT_FALSE(c.guest->reset);
}

TEST(VsockClose, guest_stops_receiving_and_host_writer_learns_it) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  guest.shutdown(*c.guest, kVsockNoReceive);
  EXPECT_TRUE(reader_gone(c.host));
  guest.write(*c.guest, "still sending");
  EXPECT_EQ(read_host(c.host).bytes, "still sending");
}

TEST(VsockClose, host_stops_receiving_and_guest_writer_learns_it) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  ::shutdown(c.host.get(), SHUT_RD);
  guest.write(*c.guest, "for nobody");
  ASSERT_TRUE(guest.run_until([&] { return c.guest->host_shutdown != 0; }));
  EXPECT_EQ(c.guest->host_shutdown, kVsockNoReceive);
  write_host(c.host, "still sending");
  EXPECT_TRUE(guest.run_until([&] { return c.guest->received == "still sending"; }));
  // What nobody reads uses up no credit.
  EXPECT_EQ(guest.write(*c.guest, pattern(200'000)), 200'000u);
}

TEST(VsockClose, both_half_closes_end_the_connection) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  guest.shutdown(*c.guest, kVsockNoSend);
  write_host(c.host, "rest");
  ::shutdown(c.host.get(), SHUT_WR);
  ASSERT_TRUE(guest.run_until([&] { return c.guest->host_shutdown == kVsockShutdownBoth; }));
  EXPECT_EQ(c.guest->received, "rest");
  guest.send(GuestFake::header(c.guest->key, VsockOp::kReset));
  EXPECT_EQ(guest.device().connection_count(), 0u);
  EXPECT_TRUE(read_host(c.host).end);
}

TEST(VsockClose, host_closes_and_guest_gets_every_byte_first) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  c.guest->reads_at_once = false;
  const std::string sent = pattern(120'000);
  ASSERT_EQ(write_host(c.host, sent), sent.size());
  c.host.reset();
  ASSERT_TRUE(guest.run_until([&] { return c.guest->host_shutdown == kVsockShutdownBoth; }));
  EXPECT_EQ(c.guest->received, sent);
  EXPECT_FALSE(c.guest->reset);
  guest.send(GuestFake::header(c.guest->key, VsockOp::kReset));
  EXPECT_EQ(guest.device().connection_count(), 0u);
}

TEST(VsockClose, host_closes_before_the_guest_has_answered) {
  GuestFake guest;
  guest.listening.insert(test::kAgent);
  auto [ours, theirs] = socket_pair();
  ASSERT_TRUE(guest.device().connect_guest(test::kAgent, std::move(theirs), [](Status) {}));
  write_host(ours, "fire and forget");
  ours.reset();
  guest.loop().run_once(Deadline::after(10ms));
  ASSERT_TRUE(guest.run_until([&] {
    return guest.streams.size() == 1 &&
           guest.streams.begin()->second.host_shutdown == kVsockShutdownBoth;
  }));
  EXPECT_EQ(guest.streams.begin()->second.received, "fire and forget");
}

TEST(VsockClose, guest_closes_and_host_gets_every_byte_first) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  const std::string sent = pattern(400'000);
  const std::size_t done = guest.write(*c.guest, sent);
  EXPECT_GT(guest.device().buffered_bytes(), 0u);
  guest.shutdown(*c.guest, kVsockShutdownBoth);
  // The guest is free at once; the host side goes on.
  ASSERT_TRUE(guest.run_until([&] { return c.guest->reset; }));
  EXPECT_EQ(guest.device().connection_count(), 1u);
  std::string got;
  ASSERT_TRUE(guest.run_until([&] {
    const auto more = read_host(c.host);
    got += more.bytes;
    return more.end;
  }));
  EXPECT_TRUE(got == sent.substr(0, done));
  EXPECT_EQ(guest.device().connection_count(), 0u);
}

TEST(VsockClose, guest_may_use_the_ports_again_while_the_old_bytes_drain) {
  GuestFake guest;
  Opened old = open_from_guest(guest);
  const std::string sent = pattern(400'000);
  const std::size_t done = guest.write(*old.guest, sent);
  ASSERT_GT(guest.device().buffered_bytes(), 0u);
  guest.shutdown(*old.guest, kVsockShutdownBoth);
  ASSERT_TRUE(guest.run_until([&] { return old.guest->reset; }));
  Opened fresh = open_from_guest(guest);
  EXPECT_EQ(guest.device().connection_count(), 2u);
  guest.write(*fresh.guest, "second");
  EXPECT_EQ(read_host(fresh.host).bytes, "second");
  std::string got;
  ASSERT_TRUE(guest.run_until([&] {
    const auto more = read_host(old.host);
    got += more.bytes;
    return more.end;
  }));
  EXPECT_TRUE(got == sent.substr(0, done));
}

TEST(VsockClose, draining_ends_when_the_host_takes_nothing_for_too_long) {
  VsockLimits limits;
  limits.timeouts.drain = 30ms;
  GuestFake guest(limits);
  Opened c = open_to_guest(guest);
  guest.write(*c.guest, pattern(400'000));
  guest.shutdown(*c.guest, kVsockShutdownBoth);
  EXPECT_EQ(guest.device().connection_count(), 1u);
  EXPECT_TRUE(guest.run_until([&] { return guest.device().connection_count() == 0; }));
}

TEST(VsockClose, draining_ends_when_the_host_closes) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  guest.write(*c.guest, pattern(400'000));
  guest.shutdown(*c.guest, kVsockShutdownBoth);
  c.host.reset();
  EXPECT_TRUE(guest.run_until([&] { return guest.device().connection_count() == 0; }));
}

TEST(VsockClose, guest_resets) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  write_host(c.host, "unread");
  guest.rx_limit = 0;
  guest.send(GuestFake::header(c.guest->key, VsockOp::kReset));
  EXPECT_EQ(guest.device().connection_count(), 0u);
  const auto got = read_host(c.host);
  EXPECT_TRUE(got.end || got.reset);
  guest.rx_limit = GuestFake::kQueueSize;
  guest.settle();
  EXPECT_TRUE(guest.strays.empty());  // a reset is never answered
  EXPECT_FALSE(c.guest->reset);
}

TEST(VsockClose, host_resets) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  write_host(c.host, "before the reset");
  guest.write(*c.guest, "never read");
  // A unix socket closed with unread bytes is a reset for its peer.
  c.host.reset();
  ASSERT_TRUE(guest.run_until([&] { return c.guest->reset; }));
  EXPECT_EQ(c.guest->received, "before the reset");
  EXPECT_EQ(guest.device().connection_count(), 0u);
}

TEST(VsockClose, guest_that_never_answers_a_request_times_out) {
  VsockLimits limits;
  limits.timeouts.connect = 300ms;
  GuestFake guest(limits);
  guest.answers_requests = false;
  auto [ours, theirs] = socket_pair();
  std::optional<Status> result;
  ASSERT_TRUE(guest.device().connect_guest(test::kAgent, std::move(theirs),
                                           [&](Status s) { result = std::move(s); }));
  ASSERT_TRUE(guest.run_until([&] { return result.has_value(); }));
  EXPECT_EQ(result->error().code(), Code::kTimeout);
  EXPECT_TRUE(read_host(ours).end);
  ASSERT_TRUE(guest.run_until([&] { return guest.strays.size() == 2; }));
  EXPECT_TRUE(guest.strays[0].is(VsockOp::kRequest));
  EXPECT_TRUE(guest.strays[1].is(VsockOp::kReset));
}

TEST(VsockClose, guest_that_was_never_asked_is_not_reset) {
  VsockLimits limits;
  limits.timeouts.connect = 30ms;
  GuestFake guest(limits);
  guest.rx_limit = 0;
  auto [ours, theirs] = socket_pair();
  std::optional<Status> result;
  ASSERT_TRUE(guest.device().connect_guest(test::kAgent, std::move(theirs),
                                           [&](Status s) { result = std::move(s); }));
  ASSERT_TRUE(guest.run_until([&] { return result.has_value(); }));
  EXPECT_EQ(result->error().code(), Code::kTimeout);
  guest.rx_limit = GuestFake::kQueueSize;
  guest.settle();
  EXPECT_TRUE(guest.strays.empty());
}

TEST(VsockClose, guest_that_never_answers_a_full_shutdown_is_reset) {
  VsockLimits limits;
  limits.timeouts.close = 300ms;
  GuestFake guest(limits);
  Opened c = open_to_guest(guest);
  c.host.reset();
  ASSERT_TRUE(guest.run_until([&] { return c.guest->host_shutdown == kVsockShutdownBoth; }));
  EXPECT_EQ(guest.device().connection_count(), 1u);
  EXPECT_TRUE(guest.run_until([&] { return c.guest->reset; }));
  EXPECT_EQ(guest.device().connection_count(), 0u);
}

TEST(VsockClose, crossing_shutdowns_end_in_one_reset) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  c.host.reset();
  ASSERT_TRUE(guest.run_until([&] { return c.guest->host_shutdown == kVsockShutdownBoth; }));
  guest.send(guest.stamped(*c.guest, VsockOp::kCreditUpdate));
  guest.write(*c.guest, "crossed it on the way");
  EXPECT_EQ(guest.device().connection_count(), 1u);
  guest.shutdown(*c.guest, kVsockShutdownBoth);
  EXPECT_EQ(guest.device().connection_count(), 0u);
  EXPECT_TRUE(guest.run_until([&] { return c.guest->reset; }));
  EXPECT_TRUE(guest.strays.empty());
}

}  // namespace
}  // namespace sm
