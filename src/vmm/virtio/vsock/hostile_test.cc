// Guests that break the rules: nothing they send may harm the host, another connection or memory.
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "vmm/virtio/vsock/guest_fake.h"

namespace sm {
namespace {

using test::ChainBuilder;
using test::GuestFake;
using test::GuestStream;
using test::open_from_guest;
using test::open_to_guest;
using test::Opened;
using test::pattern;
using test::read_host;
using test::socket_pair;
using test::use_up_rx;
using test::write_host;

// What one bad packet on an established connection does to it.
struct BadPacket {
  const char* name;
  std::function<void(virtio_vsock_hdr&)> change;
  std::string payload;
  bool survives;  // the connection
};

void PrintTo(const BadPacket& bad, std::ostream* out) { *out << bad.name; }

class VsockBadPacket : public testing::TestWithParam<BadPacket> {};

TEST_P(VsockBadPacket, ends_its_connection_at_most) {
  const BadPacket& bad = GetParam();
  GuestFake guest;
  Opened victim = open_to_guest(guest);
  Opened other = open_to_guest(guest);
  auto h =
      guest.stamped(*victim.guest, VsockOp::kData, static_cast<std::uint32_t>(bad.payload.size()));
  bad.change(h);
  guest.send(h, bad.payload);
  guest.settle();
  EXPECT_EQ(victim.guest->reset, !bad.survives);
  EXPECT_EQ(guest.device().connection_count(), bad.survives ? 2u : 1u);
  if (!bad.survives) {
    const auto end = read_host(victim.host);
    EXPECT_TRUE(end.end || end.reset);
  } else {
    write_host(victim.host, "fine");
    EXPECT_TRUE(guest.run_until([&] { return victim.guest->received == "fine"; }));
  }
  write_host(other.host, "unharmed");
  EXPECT_TRUE(guest.run_until([&] { return other.guest->received == "unharmed"; }));
  EXPECT_EQ(guest.interrupt.needs_reset_count, 0);
}

void set_op(virtio_vsock_hdr& h, VsockOp op) { h.op = static_cast<std::uint16_t>(op); }

INSTANTIATE_TEST_SUITE_P(
    All, VsockBadPacket,
    testing::Values(
        BadPacket{"length_beyond_the_chain", [](auto& h) { h.len = 100; }, "short", false},
        BadPacket{"length_without_payload", [](auto& h) { h.len = 1; }, "", false},
        BadPacket{"length_4_gib", [](auto& h) { h.len = 0xFFFF'FFFF; }, "x", false},
        BadPacket{"length_above_64_kib", [](auto& h) { h.len = 65537; }, "x", false},
        BadPacket{"op_zero", [](auto& h) { h.op = 0; }, "", false},
        BadPacket{"op_unknown", [](auto& h) { h.op = 8; }, "", false},
        BadPacket{"op_65535", [](auto& h) { h.op = 0xFFFF; }, "", false},
        BadPacket{"second_request", [](auto& h) { set_op(h, VsockOp::kRequest); }, "", false},
        BadPacket{"second_response", [](auto& h) { set_op(h, VsockOp::kResponse); }, "", false},
        BadPacket{"shutdown_with_payload", [](auto& h) { set_op(h, VsockOp::kShutdown); }, "x",
                  false},
        BadPacket{"credit_update_with_payload", [](auto& h) { set_op(h, VsockOp::kCreditUpdate); },
                  "x", false},
        BadPacket{"shutdown_with_unknown_flags",
                  [](auto& h) {
                    set_op(h, VsockOp::kShutdown);
                    h.flags = 0xFFFF'FFFC;
                  },
                  "", true},
        BadPacket{"shutdown_of_nothing", [](auto& h) { set_op(h, VsockOp::kShutdown); }, "", true},
        BadPacket{"seqpacket", [](auto& h) { h.type = 2; }, "", true},
        BadPacket{"type_zero", [](auto& h) { h.type = 0; }, "", true},
        BadPacket{"source_is_the_host", [](auto& h) { h.src_cid = 2; }, "", true},
        BadPacket{"source_is_another_guest", [](auto& h) { h.src_cid = 4; }, "", true},
        BadPacket{"destination_is_itself", [](auto& h) { h.dst_cid = 3; }, "", true},
        BadPacket{"destination_high_bits", [](auto& h) { h.dst_cid = 0x1'0000'0002; }, "", true},
        BadPacket{"forwarded_ahead", [](auto& h) { h.fwd_cnt = 0x8000'0000; }, "", true},
        BadPacket{"forwarded_behind", [](auto& h) { h.fwd_cnt = 0xFFFF'FFFF; }, "", true},
        BadPacket{"buffer_4_gib", [](auto& h) { h.buf_alloc = 0xFFFF'FFFF; }, "", true},
        BadPacket{"flags_on_data", [](auto& h) { h.flags = 0xFFFF'FFFF; }, "abc", true},
        BadPacket{"empty_data", [](auto&) {}, "", true}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(VsockHostile, wrong_type_is_answered_by_a_reset_of_that_type) {
  GuestFake guest;
  auto h = GuestFake::header({VsockPort{7}, VsockPort{8}}, VsockOp::kRequest);
  h.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
  guest.send(h);
  guest.settle();
  ASSERT_EQ(guest.strays.size(), 1u);
  EXPECT_TRUE(guest.strays[0].is(VsockOp::kReset));
  EXPECT_EQ(guest.strays[0].header.type, VIRTIO_VSOCK_TYPE_SEQPACKET);
}

TEST(VsockHostile, every_op_on_an_unknown_port_is_reset_once_and_resets_never) {
  GuestFake guest;
  for (std::uint16_t op = 0; op < 12; ++op) {
    auto h = GuestFake::header({VsockPort{100u + op}, VsockPort{8}}, VsockOp::kData);
    h.op = op;
    guest.send(h);
  }
  guest.settle();
  EXPECT_EQ(guest.strays.size(), 11u);
  for (const auto& packet : guest.strays) {
    EXPECT_TRUE(packet.is(VsockOp::kReset));
    EXPECT_NE(packet.header.dst_port, 100u + VIRTIO_VSOCK_OP_RST);
  }
}

TEST(VsockHostile, more_data_than_credit_resets_the_connection) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  const std::string block = pattern(65536);
  std::size_t sent = 0;
  for (int i = 0; i < 40 && !c.guest->reset; ++i) {
    guest.send(guest.stamped(*c.guest, VsockOp::kData, 65536), block);
    guest.run_guest();
    sent += block.size();
  }
  EXPECT_TRUE(c.guest->reset);
  EXPECT_EQ(guest.device().buffered_bytes(), 0u);
  EXPECT_LE(sent, std::size_t{1} << 20);
}

TEST(VsockHostile, data_after_its_own_shutdown_resets_the_connection) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  guest.shutdown(*c.guest, kVsockNoSend);
  guest.write(*c.guest, "too late");
  EXPECT_TRUE(guest.run_until([&] { return c.guest->reset; }));
  EXPECT_EQ(read_host(c.host).bytes, "");
}

TEST(VsockHostile, response_to_a_request_never_sent) {
  GuestFake guest;
  guest.rx_limit = 0;
  auto [ours, theirs] = socket_pair();
  ASSERT_TRUE(guest.device().connect_guest(test::kAgent, std::move(theirs), [](Status) {}));
  // The first host port can be guessed.
  const VsockKey guessed{test::kAgent, VsockPort{0x4000'0000}};
  guest.send(GuestFake::header(guessed, VsockOp::kResponse));
  EXPECT_EQ(guest.device().connection_count(), 0u);
}

TEST(VsockHostile, anything_but_an_answer_to_a_request_refuses_it) {
  for (const VsockOp op : {VsockOp::kRequest, VsockOp::kData, VsockOp::kShutdown,
                           VsockOp::kCreditUpdate, VsockOp::kCreditRequest}) {
    GuestFake guest;
    guest.answers_requests = false;
    auto [ours, theirs] = socket_pair();
    std::optional<Status> result;
    ASSERT_TRUE(guest.device().connect_guest(test::kAgent, std::move(theirs),
                                             [&](Status s) { result = std::move(s); }));
    guest.settle();
    ASSERT_EQ(guest.strays.size(), 1u);
    const auto& request = guest.strays[0].header;
    guest.send(GuestFake::header({VsockPort{request.dst_port}, VsockPort{request.src_port}}, op));
    guest.settle();
    ASSERT_TRUE(result.has_value());
    EXPECT_FALSE(*result);
    EXPECT_EQ(guest.device().connection_count(), 0u);
  }
}

TEST(VsockHostile, request_and_reset_forever_without_buffers_stays_bounded) {
  GuestFake guest;
  guest.rx_limit = 0;
  std::vector<UniqueFd> kept;
  guest.device().set_guest_listener(test::kEnvServer, [&](VsockPort) -> Result<UniqueFd> {
    auto [ours, theirs] = socket_pair();
    if (kept.size() > 10) kept.clear();
    kept.push_back(std::move(ours));
    return std::move(theirs);
  });
  for (std::uint32_t i = 0; i < 5000; ++i) {
    const VsockKey key{VsockPort{i % 7}, test::kEnvServer};
    guest.send(GuestFake::header(key, VsockOp::kRequest));
    if (i % 3 == 0) guest.loop().run_once(Deadline::after(Duration{0}));
    guest.send(GuestFake::header(key, VsockOp::kReset));
    ASSERT_EQ(guest.device().connection_count(), 0u);
  }
}

TEST(VsockHostile, tiny_receive_buffers_come_back_empty) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  use_up_rx(guest, c);
  write_host(c.host, "data");
  for (const std::uint32_t bytes : {1u, 43u, 44u}) {
    const std::uint16_t before = guest.rx().used_index();
    guest.rx_bytes = bytes;
    guest.rx_limit = 4;
    guest.fill_rx();
    EXPECT_TRUE(guest.kick(0));
    EXPECT_EQ(guest.rx().used_index() - before, 4) << bytes;
    EXPECT_TRUE(guest.take_packets().empty());
  }
  guest.rx_bytes = 45;
  EXPECT_TRUE(guest.run_until([&] { return c.guest->received.ends_with("data"); }));
}

TEST(VsockHostile, receive_chains_that_are_only_readable_come_back_empty) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  use_up_rx(guest, c);
  const auto built = ChainBuilder(guest.rx()).readable("read only").offer();
  write_host(c.host, "z");
  guest.loop().run_once(Deadline::after(std::chrono::milliseconds(50)));
  const auto used = guest.rx().take_used();
  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(used->id, built.head);
  EXPECT_EQ(used->length, 0u);
}

TEST(VsockHostile, transmit_chains_without_a_whole_header_are_dropped) {
  GuestFake guest;
  ChainBuilder(guest.tx()).writable(4096).offer();
  ChainBuilder(guest.tx()).readable("short").offer();
  ChainBuilder(guest.tx()).readable(std::string(43, 'x')).writable(100).offer();
  EXPECT_TRUE(guest.kick(1));
  EXPECT_EQ(guest.tx().used_index(), 3u);
  guest.settle();
  EXPECT_TRUE(guest.strays.empty());
}

TEST(VsockHostile, header_cut_into_single_bytes_is_understood) {
  GuestFake guest;
  const auto h = GuestFake::header({VsockPort{7}, VsockPort{8}}, VsockOp::kRequest);
  ChainBuilder chain(guest.tx());
  for (const std::byte& b : std::as_bytes(std::span(&h, 1))) chain.readable(std::span(&b, 1));
  chain.offer();
  EXPECT_TRUE(guest.kick(1));
  guest.settle();
  ASSERT_EQ(guest.strays.size(), 1u);
  EXPECT_TRUE(guest.strays[0].is(VsockOp::kReset));
}

TEST(VsockHostile, broken_transmit_ring_ends_all_connections) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  guest.tx().set_available_index(static_cast<std::uint16_t>(guest.tx().next_available() + 1000));
  EXPECT_FALSE(guest.kick(1));
  EXPECT_EQ(guest.device().connection_count(), 0u);
  guest.loop().run_once(Deadline::after(std::chrono::milliseconds(20)));
  const auto end = read_host(c.host);
  EXPECT_TRUE(end.end || end.reset);
}

TEST(VsockHostile, broken_receive_ring_is_found_when_the_host_sends) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  guest.rx().set_available_index(static_cast<std::uint16_t>(guest.rx().next_available() + 1000));
  std::string rest = pattern(4u << 20);
  const Deadline deadline = Deadline::after(std::chrono::seconds(60));
  while (guest.interrupt.needs_reset_count == 0 && !deadline.passed()) {
    write_host(c.host, rest);
    guest.loop().run_once(Deadline::after(Duration{0}));
    guest.take_packets();
    guest.send(guest.stamped(*c.guest, VsockOp::kCreditUpdate));
  }
  EXPECT_EQ(guest.interrupt.needs_reset_count, 1);
  EXPECT_EQ(guest.device().connection_count(), 0u);
}

TEST(VsockHostile, broken_event_ring_is_found_when_there_is_an_event) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  guest.events().set_available_index(1000);
  EXPECT_TRUE(guest.device().reset_transport());
  EXPECT_EQ(guest.interrupt.needs_reset_count, 1);
  EXPECT_EQ(guest.device().connection_count(), 0u);
}

TEST(VsockHostile, random_packets_and_host_actions_never_break_the_invariants) {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 engine(seed);
    const auto random = [&engine] { return static_cast<std::uint32_t>(engine()); };
    VsockLimits limits;
    limits.connections = 16;
    limits.stray_resets = 8;
    limits.timeouts = {std::chrono::milliseconds(5), std::chrono::milliseconds(5),
                       std::chrono::milliseconds(5)};
    GuestFake guest(limits);
    guest.listening.insert(test::kAgent);
    std::vector<UniqueFd> hosts;
    guest.device().set_guest_listener(test::kEnvServer, [&](VsockPort) -> Result<UniqueFd> {
      if (random() % 4 == 0) return fail(Code::kGone, "no");
      auto [ours, theirs] = socket_pair();
      hosts.push_back(std::move(ours));
      return std::move(theirs);
    });
    const std::string bytes = pattern(65536, seed);
    for (int i = 0; i < 2000; ++i) {
      switch (random() % 8) {
        case 0: {
          auto [ours, theirs] = socket_pair();
          (void)guest.device().connect_guest(test::kAgent, std::move(theirs), [](Status) {});
          hosts.push_back(std::move(ours));
          break;
        }
        case 1:
          if (!hosts.empty()) write_host(hosts[random() % hosts.size()], bytes);
          break;
        case 2:
          if (!hosts.empty()) {
            auto& host = hosts[random() % hosts.size()];
            if (random() % 2 == 0) ::shutdown(host.get(), random() % 2 == 0 ? SHUT_RD : SHUT_WR);
            read_host(host);
          }
          break;
        case 3:
          if (!hosts.empty())
            hosts.erase(hosts.begin() + static_cast<long>(random() % hosts.size()));
          break;
        case 4:
          guest.rx_limit = random() % 4;
          guest.run_guest();
          guest.loop().run_once(Deadline::after(Duration{0}));
          break;
        default: {
          VsockKey key{test::kAgent, VsockPort{0x4000'0000u + random() % 32}};
          if (random() % 3 == 0) key = {VsockPort{random() % 4}, test::kEnvServer};
          if (!guest.can_send()) break;
          const auto length = random() % 2 == 0 ? 0 : random() % 3000;
          auto h = GuestFake::header(key, VsockOp::kData, length);
          h.op = static_cast<std::uint16_t>(random() % 9);
          h.flags = random() % 4;
          if (random() % 4 == 0) h.buf_alloc = random();
          h.fwd_cnt = random() % 2 == 0 ? 0 : random() % 100'000;
          guest.offer_packet(h, std::string_view(bytes).substr(0, length), random() % 2 == 0);
          EXPECT_TRUE(guest.kick(1));
          break;
        }
      }
      ASSERT_LE(guest.device().connection_count(), limits.connections);
      ASSERT_LE(guest.device().buffered_bytes(), limits.connections * limits.large_buffer);
    }
    EXPECT_EQ(guest.interrupt.needs_reset_count, 0);
    // After all that, a connection of good manners still works.
    hosts.clear();
    guest.rx_limit = GuestFake::kQueueSize;
    guest.streams.clear();
    // Some wait for room in a guest that never gave any: their programs in the guest end.
    const auto end = [&guest](VsockKey key) {
      ASSERT_TRUE(guest.run_until([&] { return guest.can_send(); }));
      guest.send(GuestFake::header(key, VsockOp::kReset));
    };
    for (std::uint32_t i = 0; i < 4; ++i) end({VsockPort{i}, test::kEnvServer});
    for (std::uint32_t i = 0; i < 2000; ++i) end({test::kAgent, VsockPort{0x4000'0000u + i}});
    ASSERT_TRUE(guest.run_until([&] { return guest.device().connection_count() == 0; }));
    guest.settle();
    guest.streams.clear();
    Opened c = open_to_guest(guest);
    write_host(c.host, "alive");
    EXPECT_TRUE(guest.run_until([&] { return c.guest->received == "alive"; }));
  }
}

}  // namespace
}  // namespace sm
