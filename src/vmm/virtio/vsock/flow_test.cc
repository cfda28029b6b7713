// Flow control, limits and fairness of the vsock device.
#include <gtest/gtest.h>

#include <chrono>

#include "vmm/virtio/vsock/guest_fake.h"

namespace sm {
namespace {

using namespace std::chrono_literals;
using test::GuestFake;
using test::GuestStream;
using test::kAgent;
using test::open_to_guest;
using test::Opened;
using test::pattern;
using test::read_host;
using test::socket_pair;
using test::write_host;

constexpr std::size_t kMegabyte = 1u << 20;

TEST(VsockFlow, fifty_megabytes_to_the_guest_arrive_unharmed) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  const std::string sent = pattern(50 * kMegabyte);
  std::size_t written = 0, checked = 0;
  bool equal = true;
  ASSERT_TRUE(guest.run_until([&] {
    written += write_host(c.host, std::string_view(sent).substr(written, kMegabyte));
    const std::string got = guest.read(*c.guest, c.guest->received.size());
    equal = equal && sent.compare(checked, got.size(), got) == 0;
    checked += got.size();
    return checked == sent.size();
  })) << checked;
  EXPECT_TRUE(equal);
}

TEST(VsockFlow, fifty_megabytes_to_the_host_arrive_unharmed) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  const std::string sent = pattern(50 * kMegabyte);
  std::size_t written = 0, checked = 0;
  bool equal = true;
  ASSERT_TRUE(guest.run_until([&] {
    written += guest.write(*c.guest, std::string_view(sent).substr(written, kMegabyte));
    const std::string got = read_host(c.host).bytes;
    equal = equal && sent.compare(checked, got.size(), got) == 0;
    checked += got.size();
    return checked == sent.size();
  })) << checked;
  EXPECT_TRUE(equal);
  EXPECT_EQ(guest.device().buffered_bytes(), 0u);
}

TEST(VsockFlow, both_directions_at_once_with_odd_buffers) {
  GuestFake guest({}, /*event_idx=*/false);
  guest.rx_bytes = 44 + 1021;
  Opened c = open_to_guest(guest);
  const std::string down = pattern(5 * kMegabyte, 1);
  const std::string up = pattern(5 * kMegabyte, 2);
  std::size_t down_written = 0, up_written = 0;
  std::string got_up;
  ASSERT_TRUE(guest.run_until([&] {
    down_written += write_host(c.host, std::string_view(down).substr(down_written, 100'003));
    up_written += guest.write(*c.guest, std::string_view(up).substr(up_written, 33'331));
    got_up += read_host(c.host).bytes;
    return c.guest->received.size() == down.size() && got_up.size() == up.size();
  }));
  EXPECT_TRUE(c.guest->received == down);
  EXPECT_TRUE(got_up == up);
}

TEST(VsockFlow, guest_with_one_byte_of_credit_gets_one_byte_at_a_time) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  GuestStream& s = *c.guest;
  s.reads_at_once = false;
  s.buffer_size = 1;
  guest.send(guest.stamped(s, VsockOp::kCreditUpdate));
  write_host(c.host, "abc");
  guest.settle();
  EXPECT_EQ(s.received, "a");
  EXPECT_EQ(guest.read(s, 1), "a");
  guest.settle();
  EXPECT_EQ(s.received, "b");
  EXPECT_EQ(guest.read(s, 1), "b");
  guest.settle();
  EXPECT_EQ(s.received, "c");
}

TEST(VsockFlow, guest_that_does_not_read_gets_its_buffer_and_no_more) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  GuestStream& s = *c.guest;
  s.reads_at_once = false;
  const std::string sent = pattern(kMegabyte);
  std::size_t written = 0;
  for (int i = 0; i < 300; ++i) {
    written += write_host(c.host, std::string_view(sent).substr(written));
    guest.step();
  }
  EXPECT_EQ(s.received.size(), s.buffer_size);
  // The rest waits in the host's socket, not in the device.
  EXPECT_LT(written, sent.size());
  std::string got;
  ASSERT_TRUE(guest.run_until([&] {
    written += write_host(c.host, std::string_view(sent).substr(written));
    got += guest.read(s, 50'000);
    return got.size() == sent.size();
  }));
  EXPECT_TRUE(got == sent);
}

TEST(VsockFlow, stalled_connection_does_not_keep_the_loop_busy) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  c.guest->reads_at_once = false;
  const std::string sent = pattern(kMegabyte);
  for (std::size_t written = 0, i = 0; i < 300; ++i) {
    written += write_host(c.host, std::string_view(sent).substr(written));
    guest.step();
  }
  guest.settle();
  c.host.reset();  // even a hang-up must not spin
  guest.settle();
  guest.loop().run_once(Deadline::after(30ms));  // the interrupt for what the guest has sent
  const auto start = now();
  guest.loop().run_once(Deadline::after(100ms));
  EXPECT_GE(now() - start, 90ms) << "something woke the loop";
}

// That the driver's own packets are done is told with something else, or after a while.
TEST(VsockFlow, interrupts_for_sent_packets_come_together) {
  GuestFake guest({}, /*event_idx=*/false);
  Opened c = open_to_guest(guest);
  guest.settle();
  guest.loop().run_once(Deadline::after(30ms));
  const auto count = [&] { return guest.interrupt.used_buffers_count.load(); };
  const int before = count();
  ASSERT_EQ(guest.write(*c.guest, "one"), 3u);
  EXPECT_EQ(count(), before);
  EXPECT_EQ(read_host(c.host).bytes, "one");
  ASSERT_EQ(write_host(c.host, "answer"), 6u);
  ASSERT_TRUE(guest.run_until([&] { return c.guest->received == "answer"; }));
  EXPECT_EQ(count(), before + 1) << "one for both queues";

  ASSERT_EQ(guest.write(*c.guest, "two"), 3u);
  EXPECT_EQ(count(), before + 1);
  const Deadline deadline = Deadline::after(10s);
  while (count() == before + 1 && !deadline.passed()) {
    guest.loop().run_once(Deadline::after(50ms));
  }
  EXPECT_EQ(count(), before + 2) << "nobody waits for ever";

  for (int i = 0; i < 64; ++i) ASSERT_EQ(guest.write(*c.guest, "x"), 1u);
  EXPECT_GE(count(), before + 3) << "the queue may run full";
}

TEST(VsockFlow, slow_host_reader_stops_the_guest_and_loses_nothing) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  const std::string sent = pattern(2 * kMegabyte);
  std::size_t written = 0;
  for (int i = 0; i < 300; ++i) {
    written += guest.write(*c.guest, std::string_view(sent).substr(written));
    guest.step();
  }
  EXPECT_LT(written, sent.size());
  EXPECT_EQ(c.guest->credit(), 0u);
  EXPECT_LE(guest.device().buffered_bytes(), 256u << 10);
  std::string got;
  ASSERT_TRUE(guest.run_until([&] {
    char buffer[1000];
    const ssize_t n = ::recv(c.host.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
    if (n > 0) got.append(buffer, static_cast<std::size_t>(n));
    written += guest.write(*c.guest, std::string_view(sent).substr(written));
    return got.size() == sent.size();
  })) << got.size();
  EXPECT_TRUE(got == sent);
}

TEST(VsockFlow, guest_that_asks_for_credit_is_told) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  guest.write(*c.guest, "12345");
  EXPECT_EQ(c.guest->host_forwarded, 0u);
  guest.send(guest.stamped(*c.guest, VsockOp::kCreditRequest));
  EXPECT_TRUE(guest.run_until([&] { return c.guest->host_forwarded == 5; }));
}

TEST(VsockFlow, five_hundred_connections_echo_at_once) {
  GuestFake guest;
  guest.listening.insert(kAgent);
  constexpr std::size_t kCount = 500;
  std::vector<UniqueFd> hosts;
  for (std::size_t i = 0; i < kCount; ++i) {
    auto [ours, theirs] = socket_pair();
    ASSERT_TRUE(guest.device().connect_guest(kAgent, std::move(theirs), [](Status) {}));
    hosts.push_back(std::move(ours));
  }
  ASSERT_TRUE(guest.run_until([&] { return guest.streams.size() == kCount; }));
  std::vector<std::string> sent, got(kCount);
  std::vector<std::size_t> written(kCount);
  for (std::size_t i = 0; i < kCount; ++i) {
    sent.push_back(pattern(20'000, static_cast<std::uint32_t>(i)));
  }
  std::size_t done = 0;
  ASSERT_TRUE(guest.run_until([&] {
    for (std::size_t i = 0; i < kCount; ++i) {
      written[i] += write_host(hosts[i], std::string_view(sent[i]).substr(written[i]));
    }
    for (auto& [ports, s] : guest.streams) {
      const std::size_t echoed = guest.write(s, s.received);
      s.received.erase(0, echoed);
    }
    done = 0;
    for (std::size_t i = 0; i < kCount; ++i) {
      got[i] += read_host(hosts[i]).bytes;
      if (got[i].size() == sent[i].size()) ++done;
    }
    return done == kCount;
  })) << done;
  EXPECT_TRUE(got == sent);
}

TEST(VsockFlow, table_full_refuses_and_has_room_again_later) {
  VsockLimits limits;
  limits.connections = 8;
  GuestFake guest(limits);
  std::vector<Opened> open;
  for (int i = 0; i < 8; ++i) open.push_back(open_to_guest(guest));
  auto [ours, theirs] = socket_pair();
  const auto refused = guest.device().connect_guest(kAgent, std::move(theirs), [](Status) {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kLimit);
  EXPECT_TRUE(read_host(ours).end);
  guest.device().set_guest_listener(test::kEnvServer, [](VsockPort) -> Result<UniqueFd> {
    ADD_FAILURE() << "must not be asked";
    return fail(Code::kGone, "");
  });
  GuestStream& s = guest.connect(VsockPort{5000}, test::kEnvServer);
  EXPECT_TRUE(guest.run_until([&] { return s.reset; }));

  guest.send(GuestFake::header(open[3].guest->key, VsockOp::kReset));
  EXPECT_EQ(guest.device().connection_count(), 7u);
  Opened again = open_to_guest(guest);
  write_host(again.host, "room");
  EXPECT_TRUE(guest.run_until([&] { return again.guest->received == "room"; }));
}

TEST(VsockFlow, later_connections_get_small_buffers) {
  VsockLimits limits;
  limits.large_buffers = 2;
  GuestFake guest(limits);
  Opened first = open_to_guest(guest), second = open_to_guest(guest), third = open_to_guest(guest);
  EXPECT_EQ(first.guest->host_buffer, 256u << 10);
  EXPECT_EQ(second.guest->host_buffer, 256u << 10);
  EXPECT_EQ(third.guest->host_buffer, 64u << 10);
}

TEST(VsockFlow, busy_connection_leaves_room_for_a_quiet_one) {
  GuestFake guest;
  guest.rx_limit = 4;  // few buffers: they have to be shared
  Opened busy = open_to_guest(guest), quiet = open_to_guest(guest);
  const std::string flood = pattern(kMegabyte);
  write_host(busy.host, flood);
  guest.settle(3);
  write_host(quiet.host, "x");
  const std::size_t before = busy.guest->received.size();
  ASSERT_TRUE(guest.run_until([&] {
    write_host(busy.host, flood);
    return quiet.guest->received == "x";
  }));
  // A few rounds, not a whole megabyte.
  EXPECT_LT(busy.guest->received.size() - before, 100'000u);
}

TEST(VsockFlow, other_work_of_the_loop_gets_its_turn) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  int turns = 0;
  std::function<void()> tick = [&] {
    ++turns;
    guest.loop().add_timer(now(), tick);
  };
  guest.loop().add_timer(now(), tick);
  const std::string flood = pattern(kMegabyte);
  for (int i = 0; i < 200; ++i) {
    write_host(c.host, flood);
    guest.write(*c.guest, flood);
    read_host(c.host);
    guest.step();
  }
  EXPECT_GE(turns, 200);
}

TEST(VsockFlow, one_call_handles_a_bounded_number_of_packets) {
  GuestFake guest;
  // Refill the ring from inside: a driver that never stops offering.
  std::size_t calls = 0;
  const auto garbage = GuestFake::header({VsockPort{1}, VsockPort{2}}, VsockOp::kReset);
  for (int round = 0; round < 100; ++round) {
    while (guest.can_send()) guest.offer_packet(garbage, {});
    EXPECT_TRUE(guest.kick(1));
    ++calls;
  }
  EXPECT_EQ(calls, 100u);
  EXPECT_EQ(guest.device().connection_count(), 0u);
}

TEST(VsockFlow, resets_wait_for_buffers_and_the_guest_waits_with_them) {
  VsockLimits limits;
  limits.stray_resets = 16;
  GuestFake guest(limits);
  guest.rx_limit = 0;
  for (std::uint32_t i = 0; i < 60; ++i) {
    guest.offer_packet(GuestFake::header({VsockPort{i}, VsockPort{9}}, VsockOp::kData), {});
  }
  EXPECT_TRUE(guest.kick(1));
  // 16 were taken; the others stay where they are.
  EXPECT_EQ(guest.tx().used_index(), 16u);
  EXPECT_TRUE(guest.kick(1));
  EXPECT_EQ(guest.tx().used_index(), 16u);
  guest.rx_limit = GuestFake::kQueueSize;
  ASSERT_TRUE(guest.run_until([&] { return guest.strays.size() == 60; }));
  for (std::uint32_t i = 0; i < 60; ++i) {
    EXPECT_TRUE(guest.strays[i].is(VsockOp::kReset));
    EXPECT_EQ(guest.strays[i].header.dst_port, i);
    EXPECT_EQ(guest.strays[i].header.src_port, 9u);
  }
}

}  // namespace
}  // namespace sm
