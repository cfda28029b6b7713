// Connections, data and ends of the vsock device, seen from a guest that keeps the rules.
#include "vmm/virtio/vsock/device.h"

#include <gtest/gtest.h>

#include "vmm/virtio/vsock/guest_fake.h"

namespace sm {
namespace {

using test::GuestFake;
using test::GuestStream;
using test::kAgent;
using test::kEnvServer;
using test::open_to_guest;
using test::Opened;
using test::read_host;
using test::socket_pair;
using test::write_host;

TEST(VsockDevice, config_space_holds_the_guest_cid) {
  GuestFake guest;
  std::uint64_t cid = 0;
  guest.device().read_config(0, std::as_writable_bytes(std::span(&cid, 1)));
  EXPECT_EQ(cid, test::kGuestCid);
  std::uint32_t high = 1;
  guest.device().read_config(4, std::as_writable_bytes(std::span(&high, 1)));
  EXPECT_EQ(high, 0u);
  guest.device().read_config(4096, std::as_writable_bytes(std::span(&high, 1)));
  EXPECT_EQ(high, 0u);
}

TEST(VsockDevice, create_refuses_reserved_context_ids) {
  auto loop = test::must(EventLoop::create());
  Log log = Log::none();
  for (const std::uint64_t cid : {0ull, 1ull, 2ull, 0xFFFF'FFFFull, ~0ull}) {
    EXPECT_FALSE(VsockDevice::create(*loop, log, VsockCid{cid})) << cid;
  }
}

TEST(VsockDevice, host_connects_and_data_flows_both_ways) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  write_host(c.host, "hello guest");
  EXPECT_TRUE(guest.run_until([&] { return c.guest->received == "hello guest"; }));
  EXPECT_EQ(guest.write(*c.guest, "hello host"), 10u);
  EXPECT_EQ(read_host(c.host).bytes, "hello host");
}

TEST(VsockDevice, guest_refuses_connection_fails_and_host_sees_the_end) {
  GuestFake guest;
  auto [ours, theirs] = socket_pair();
  std::optional<Status> result;
  ASSERT_TRUE(guest.device().connect_guest(kAgent, std::move(theirs),
                                           [&](Status s) { result = std::move(s); }));
  ASSERT_TRUE(guest.run_until([&] { return result.has_value(); }));
  ASSERT_FALSE(*result);
  EXPECT_EQ(result->error().code(), Code::kGone);
  EXPECT_TRUE(read_host(ours).end);
  EXPECT_EQ(guest.device().connection_count(), 0u);
}

TEST(VsockDevice, guest_connects_to_a_host_listener) {
  GuestFake guest;
  auto [ours, theirs] = socket_pair();
  std::optional<VsockPort> asked;
  guest.device().set_guest_listener(
      kEnvServer, [&, serve = test::serve_once(std::move(theirs))](VsockPort port) {
        asked = port;
        return serve(port);
      });
  GuestStream& s = guest.connect(VsockPort{5000}, kEnvServer);
  ASSERT_TRUE(guest.run_until([&] { return s.connected; }));
  EXPECT_EQ(asked, VsockPort{5000});
  write_host(ours, "{}");
  EXPECT_TRUE(guest.run_until([&] { return s.received == "{}"; }));
  guest.write(s, "thanks");
  EXPECT_EQ(read_host(ours).bytes, "thanks");
}

TEST(VsockDevice, guest_connects_to_a_port_nobody_serves_gets_a_reset) {
  GuestFake guest;
  GuestStream& s = guest.connect(VsockPort{5000}, VsockPort{77});
  EXPECT_TRUE(guest.run_until([&] { return s.reset; }));
  EXPECT_FALSE(s.connected);
}

TEST(VsockDevice, handler_that_fails_resets_the_guest) {
  GuestFake guest;
  guest.device().set_guest_listener(
      kEnvServer, [](VsockPort) -> Result<UniqueFd> { return fail(Code::kGone, "nobody there"); });
  GuestStream& s = guest.connect(VsockPort{5000}, kEnvServer);
  EXPECT_TRUE(guest.run_until([&] { return s.reset; }));
  EXPECT_EQ(guest.device().connection_count(), 0u);
}

}  // namespace
}  // namespace sm
