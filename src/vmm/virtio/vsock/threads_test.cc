// The device behind its transport with the threads of a real machine: the loop, a vCPU that is the
// guest, a vCPU that resets, and host programs. Meant for the thread sanitizer.
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "vmm/virtio/mmio_transport.h"
#include "vmm/virtio/vsock/guest_fake.h"

namespace sm {
namespace {

using namespace std::chrono_literals;
using test::GuestArena;
using test::GuestStack;
using test::kAgent;
using test::must;
using test::pattern;
using test::socket_pair;
using test::VirtioDriverFake;

class VsockThreads : public testing::Test {
 protected:
  VsockThreads() {
    transport_ = must(MmioTransport::create(
        {*device_, *memory_, std::make_unique<test::IrqLineFake>(interrupts_), *loop_, log_}));
    loop_thread_ = std::thread([this] { loop_->run(); });
  }
  ~VsockThreads() override { stop(); }
  void stop() {
    if (!loop_thread_.joinable()) return;
    loop_->stop();
    loop_thread_.join();
    device_->stop();
    transport_->stop();
  }

  // The guest: starts the driver, says so, echoes every stream until told to end; `life` resets in
  // between.
  void run_guest(std::atomic<bool>& end, std::chrono::milliseconds life) {
    VirtioDriverFake driver(*transport_, arena_);
    while (!end) {
      driver.reset();
      arena_.rewind();
      ASSERT_TRUE(driver.start(GuestStack::kQueueSize));
      GuestStack guest(arena_, driver.ring(0), driver.ring(1), [&](std::uint32_t q) -> Status {
        driver.kick(q);
        return {};
      });
      guest.listening.insert(kAgent);
      guest_is_up_ = true;
      for (const Deadline over = Deadline::after(life); !end && !over.passed();) {
        guest.fill_rx();
        guest.run_guest();
        for (auto& [ports, s] : guest.streams) {
          s.received.erase(0, guest.write(s, s.received));
          if (s.host_shutdown == kVsockNoSend && s.received.empty() && guest.can_send()) {
            guest.shutdown(s, kVsockShutdownBoth);
            s.host_shutdown = 0;
          }
        }
        std::this_thread::yield();
      }
    }
    // Or a host program would wait for a guest that is no longer there.
    driver.reset();
  }
  // A connection from before the driver's first reset would not outlive it.
  void wait_for_guest() {
    const Deadline over = Deadline::after(60s);
    while (!guest_is_up_ && !over.passed()) std::this_thread::yield();
    ASSERT_TRUE(guest_is_up_);
  }
  // A host program's end of a new connection, of which the device hears on the loop.
  UniqueFd connect() {
    auto [ours, theirs] = socket_pair();
    auto shared = std::make_shared<UniqueFd>(std::move(theirs));
    loop_->post([this, shared] {
      (void)device_->connect_guest(kAgent, std::move(*shared), [](Status) {});
    });
    return std::move(ours);
  }
  // A host program's turn: how many of its bytes came back before the connection ended. The guest
  // is there meanwhile.
  std::size_t echo(const std::string& bytes) {
    const UniqueFd ours = connect();
    std::size_t written = 0;
    std::string got;
    for (const Deadline over = Deadline::after(60s); !over.passed();) {
      if (written < bytes.size()) {
        written += test::write_host(ours, std::string_view(bytes).substr(written));
        if (written == bytes.size()) ::shutdown(ours.get(), SHUT_WR);
      }
      const auto read = test::read_host(ours);
      got += read.bytes;
      EXPECT_TRUE(bytes.compare(0, got.size(), got) == 0);
      if (read.end || read.reset) return got.size();
      std::this_thread::yield();
    }
    ADD_FAILURE() << "echo hangs after " << got.size() << " of " << written;
    return 0;
  }

  std::unique_ptr<GuestMemory> memory_ = must(GuestMemory::create(16u << 20));
  GuestArena arena_{*memory_};
  std::unique_ptr<EventLoop> loop_ = must(EventLoop::create());
  Log log_ = Log::none();
  std::atomic<int> interrupts_{0};
  std::unique_ptr<VsockDevice> device_ =
      must(VsockDevice::create(*loop_, log_, VsockCid{test::kGuestCid}));
  std::unique_ptr<MmioTransport> transport_;
  std::thread loop_thread_;
  std::atomic<bool> guest_is_up_{false};
};

TEST_F(VsockThreads, streams_between_host_threads_and_a_guest_thread) {
  std::atomic<bool> end{false};
  std::thread guest([&] { run_guest(end, 1h); });
  wait_for_guest();
  std::vector<std::thread> hosts;
  std::atomic<int> complete{0};
  for (std::uint32_t i = 0; i < 4; ++i) {
    hosts.emplace_back([this, i, &complete] {
      const std::string bytes = pattern(300'000, i);
      for (int round = 0; round < 5; ++round) complete += echo(bytes) == bytes.size();
    });
  }
  for (auto& host : hosts) host.join();
  end = true;
  guest.join();
  EXPECT_EQ(complete, 20);
}

TEST_F(VsockThreads, guest_that_resets_its_device_all_the_time) {
  std::atomic<bool> end{false};
  std::thread guest([&] { run_guest(end, 3ms); });
  const std::string bytes = pattern(200'000);
  for (int round = 0; round < 60; ++round) echo(bytes);  // ends, whatever became of it
  end = true;
  guest.join();
}

TEST_F(VsockThreads, stop_closes_what_is_open_or_waits_for_a_guest_that_is_gone) {
  std::atomic<bool> end{false};
  std::thread guest([&] { run_guest(end, 5ms); });
  std::vector<UniqueFd> open;
  for (const Deadline over = Deadline::after(50ms); !over.passed();) {
    for (int i = 0; i < 4; ++i) open.push_back(connect());
    for (const auto& fd : open) test::write_host(fd, "short");
    for (const auto& fd : open) test::read_host(fd);
    if (open.size() > 64) open.erase(open.begin(), open.begin() + 32);
  }
  end = true;
  guest.join();
  for (int i = 0; i < 4; ++i) open.push_back(connect());  // nobody will ever answer
  std::promise<void> known;
  loop_->post([&] { known.set_value(); });
  ASSERT_EQ(known.get_future().wait_for(60s), std::future_status::ready);
  stop();
  for (const auto& fd : open) {
    const auto read = test::read_host(fd);
    EXPECT_TRUE(read.end || read.reset);
  }
}

}  // namespace
}  // namespace sm
