// Stop, reset and destruction in every state: all descriptors closed, no callback afterwards, and
// after a reset a device as new.
#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>

#include "vmm/virtio/vsock/guest_fake.h"

namespace sm {
namespace {

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

std::size_t open_descriptors() {
  std::size_t count = 0;
  DIR* dir = ::opendir("/proc/self/fd");
  while (::readdir(dir) != nullptr) ++count;
  ::closedir(dir);
  return count;
}

struct Fixture {
  GuestFake guest;
  UniqueFd host;
  int results = 0;
  int handled = 0;

  void connect_pending() {
    auto [ours, theirs] = socket_pair();
    host = std::move(ours);
    ASSERT_TRUE(guest.device().connect_guest(test::kAgent, std::move(theirs),
                                             [this](Status) { ++results; }));
  }
};

// Brings a device into one state of its life.
struct LifeState {
  const char* name;
  std::function<void(Fixture&)> enter;
};

const LifeState kStates[] = {
    {"idle", [](Fixture&) {}},
    {"request_not_sent", [](Fixture& f) { f.connect_pending(); }},
    {"request_sent",
     [](Fixture& f) {
       f.guest.answers_requests = false;
       f.connect_pending();
       f.guest.settle();
     }},
    {"result_not_delivered",
     [](Fixture& f) {
       f.guest.listening.insert(test::kAgent);
       f.connect_pending();
       f.guest.run_guest();  // request and response, but no turn of the loop
     }},
    {"handler_not_called",
     [](Fixture& f) {
       f.guest.device().set_guest_listener(test::kEnvServer, [&f](VsockPort) -> Result<UniqueFd> {
         ++f.handled;
         return fail(Code::kGone, "late");
       });
       f.guest.connect(VsockPort{5000}, test::kEnvServer);
     }},
    {"response_not_sent",
     [](Fixture& f) {
       f.guest.rx_limit = 0;
       auto [ours, theirs] = socket_pair();
       f.host = std::move(ours);
       f.guest.device().set_guest_listener(test::kEnvServer, test::serve_once(std::move(theirs)));
       f.guest.connect(VsockPort{5000}, test::kEnvServer);
       f.guest.settle();
     }},
    {"established",
     [](Fixture& f) {
       Opened c = open_to_guest(f.guest);
       f.host = std::move(c.host);
     }},
    {"bytes_for_the_guest_waiting",
     [](Fixture& f) {
       Opened c = open_to_guest(f.guest);
       use_up_rx(f.guest, c);
       write_host(c.host, pattern(100'000));
       f.guest.settle();
       f.host = std::move(c.host);
     }},
    {"bytes_for_the_host_waiting",
     [](Fixture& f) {
       Opened c = open_to_guest(f.guest);
       f.guest.write(*c.guest, pattern(400'000));
       EXPECT_GT(f.guest.device().buffered_bytes(), 0u);
       f.host = std::move(c.host);
     }},
    {"half_closed_by_the_guest",
     [](Fixture& f) {
       Opened c = open_to_guest(f.guest);
       f.guest.shutdown(*c.guest, kVsockNoSend);
       f.host = std::move(c.host);
     }},
    {"half_closed_by_the_host",
     [](Fixture& f) {
       Opened c = open_to_guest(f.guest);
       ::shutdown(c.host.get(), SHUT_WR);
       f.guest.settle();
       f.host = std::move(c.host);
     }},
    {"closing",
     [](Fixture& f) {
       Opened c = open_to_guest(f.guest);
       c.host.reset();
       f.guest.settle();
       EXPECT_EQ(c.guest->host_shutdown, kVsockShutdownBoth);
       EXPECT_EQ(f.guest.device().connection_count(), 1u);
     }},
    {"draining",
     [](Fixture& f) {
       Opened c = open_to_guest(f.guest);
       f.guest.write(*c.guest, pattern(400'000));
       f.guest.shutdown(*c.guest, kVsockShutdownBoth);
       EXPECT_EQ(f.guest.device().connection_count(), 1u);
       f.host = std::move(c.host);
     }},
    {"resets_waiting",
     [](Fixture& f) {
       f.guest.rx_limit = 0;
       for (std::uint32_t i = 0; i < 20; ++i) {
         f.guest.send(GuestFake::header({VsockPort{i}, VsockPort{1}}, VsockOp::kData));
       }
     }},
    {"dropped_but_not_closed",
     [](Fixture& f) {
       Opened c = open_to_guest(f.guest);
       f.guest.reset_device();
       f.host = std::move(c.host);
     }},
};

class VsockLife : public testing::TestWithParam<LifeState> {};

bool peer_is_closed(const UniqueFd& host) {
  if (!host.valid()) return true;
  const auto end = read_host(host);
  return end.end || end.reset;
}

TEST_P(VsockLife, stop_closes_everything_and_calls_nobody) {
  Fixture f;
  GetParam().enter(f);
  const int results = f.results, handled = f.handled;
  f.guest.device().stop();
  EXPECT_EQ(f.guest.device().connection_count(), 0u);
  EXPECT_TRUE(peer_is_closed(f.host));
  f.guest.device().stop();
  for (int i = 0; i < 3; ++i) f.guest.loop().run_once(Deadline::after(Duration{0}));
  EXPECT_EQ(f.results, results);
  EXPECT_EQ(f.handled, handled);
  auto [ours, theirs] = socket_pair();
  EXPECT_FALSE(f.guest.device().connect_guest(test::kAgent, std::move(theirs), [](Status) {}));
}

TEST_P(VsockLife, destruction_leaves_no_descriptor_and_no_callback) {
  const std::size_t before = open_descriptors();
  {
    Fixture f;
    GetParam().enter(f);
    const int results = f.results, handled = f.handled;
    f.guest.destroy_device();
    for (int i = 0; i < 3; ++i) f.guest.loop().run_once(Deadline::after(Duration{0}));
    EXPECT_EQ(f.results, results);
    EXPECT_EQ(f.handled, handled);
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST_P(VsockLife, reset_drops_all_and_the_next_driver_starts_afresh) {
  Fixture f;
  GetParam().enter(f);
  f.guest.reset_device();
  EXPECT_EQ(f.guest.device().connection_count(), 0u);
  f.guest.loop().run_once(Deadline::after(std::chrono::milliseconds(5)));
  EXPECT_TRUE(peer_is_closed(f.host));

  f.guest.activate();
  f.guest.streams.clear();
  f.guest.strays.clear();
  f.guest.rx_limit = GuestFake::kQueueSize;
  f.guest.answers_requests = true;
  f.guest.settle();
  EXPECT_TRUE(f.guest.strays.empty());
  Opened c = open_to_guest(f.guest);
  write_host(c.host, "after the reset");
  EXPECT_TRUE(f.guest.run_until([&] { return c.guest->received == "after the reset"; }));
}

INSTANTIATE_TEST_SUITE_P(All, VsockLife, testing::ValuesIn(kStates),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(VsockReset, pending_connects_are_told) {
  GuestFake guest;
  std::optional<Status> result;
  auto [ours, theirs] = socket_pair();
  ASSERT_TRUE(guest.device().connect_guest(test::kAgent, std::move(theirs),
                                           [&](Status s) { result = std::move(s); }));
  guest.reset_device();
  guest.loop().run_once(Deadline::after(std::chrono::milliseconds(5)));
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->error().code(), Code::kGone);
}

TEST(VsockReset, transport_reset_tells_the_driver_and_drops_connections) {
  GuestFake guest;
  Opened c = open_to_guest(guest);
  ASSERT_TRUE(guest.device().reset_transport());
  EXPECT_EQ(guest.device().connection_count(), 0u);
  guest.loop().run_once(Deadline::after(std::chrono::milliseconds(5)));
  EXPECT_TRUE(peer_is_closed(c.host));
  // The driver has offered no event buffer so far; the event waits for one that is large enough.
  test::ChainBuilder(guest.events()).writable(3).offer();
  const auto event = test::ChainBuilder(guest.events()).writable(4).offer();
  EXPECT_TRUE(guest.kick(2));
  EXPECT_TRUE(guest.kick(2));
  EXPECT_EQ(guest.events().take_used()->length, 0u);
  const auto used = guest.events().take_used();
  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(used->length, 4u);
  EXPECT_EQ(event.written(guest.memory(), 0, 4), std::vector<std::byte>(4));
  const auto another = test::ChainBuilder(guest.events()).writable(4).offer();
  EXPECT_TRUE(guest.kick(2));
  EXPECT_FALSE(guest.events().take_used().has_value()) << another.head;
  Opened again = open_to_guest(guest);
  write_host(again.host, "works");
  EXPECT_TRUE(guest.run_until([&] { return again.guest->received == "works"; }));
}

TEST(VsockReset, callbacks_may_call_back_and_stop_the_device) {
  GuestFake guest;
  guest.listening.insert(test::kAgent);
  int results = 0;
  for (int i = 0; i < 3; ++i) {
    auto [ours, theirs] = socket_pair();
    ASSERT_TRUE(guest.device().connect_guest(test::kAgent, std::move(theirs), [&](Status) {
      ++results;
      auto [more_ours, more_theirs] = socket_pair();
      EXPECT_TRUE(
          guest.device().connect_guest(test::kAgent, std::move(more_theirs), [](Status) {}));
      guest.device().stop();
    }));
  }
  guest.settle();
  EXPECT_EQ(results, 1);
  EXPECT_EQ(guest.device().connection_count(), 0u);
}

}  // namespace
}  // namespace sm
