// Devices behind transports with everything at once: notify storms and resets from several threads,
// queues processed on a running loop, stop in between. Meant for the thread sanitizer.
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <thread>

#include "base/file.h"
#include "support/virtio_driver_fake.h"
#include "vmm/virtio/blk/device.h"
#include "vmm/virtio/mmio_transport.h"
#include "vmm/virtio/rng/device.h"

namespace sm {
namespace {

using test::ChainBuilder;
using test::GuestArena;
using test::must;
using test::VirtioDriverFake;

constexpr int kRounds = 300;

class VirtioThreads : public ::testing::Test {
 protected:
  ~VirtioThreads() override { end_loop(); }

  void start(VirtioDevice& device) {
    transport_ = must(MmioTransport::create(
        {device, *memory_, std::make_unique<test::IrqLineFake>(interrupts_), *loop_, log_}));
    loop_thread_ = std::thread([this] { loop_->run(); });
  }
  void end_loop() {
    loop_->stop();
    if (loop_thread_.joinable()) loop_thread_.join();
  }
  // Waits for the loop's thread to work; a minute at most.
  template <class F>
  static bool wait_for(F&& done) {
    const Deadline deadline = Deadline::after(std::chrono::seconds(60));
    while (!done()) {
      if (deadline.passed()) return false;
      std::this_thread::yield();
    }
    return true;
  }
  std::unique_ptr<BlkDevice> writable_disk() {
    auto file = must(memory_file("disk", std::vector<std::byte>(1 << 20)));
    return must(BlkDevice::create({.name = "blk", .serial = "s", .access = Access::kReadWrite},
                                  must(FileBackend::create(std::move(file), Access::kReadWrite))));
  }

  std::unique_ptr<GuestMemory> memory_ = must(GuestMemory::create(16 << 20));
  std::unique_ptr<EventLoop> loop_ = must(EventLoop::create());
  Log log_ = Log::none();
  GuestArena arena_{*memory_};
  std::atomic<int> interrupts_{0};
  std::unique_ptr<MmioTransport> transport_;
  std::thread loop_thread_;
};

TEST_F(VirtioThreads, notify_storm_with_resets_and_config_reads) {
  auto device = writable_disk();
  start(*device);
  std::atomic<bool> done{false};
  // Two vCPUs that do nothing but notify and look at the lock-free registers and the config.
  const auto storm = [&] {
    VirtioDriverFake other(*transport_, arena_);
    while (!done) {
      other.kick(0);
      other.acknowledge(other.interrupt_status());
      other.read_config<std::uint64_t>(0);
    }
  };
  std::thread first(storm), second(storm);
  VirtioDriverFake driver(*transport_, arena_);
  for (int round = 0; round < kRounds; ++round) {
    driver.reset();
    arena_.rewind();
    ASSERT_TRUE(driver.start(16));
    ChainBuilder(driver.ring(0))
        .readable_object(blk::Header{.type = VIRTIO_BLK_T_IN, .ioprio = 0, .sector = 1})
        .writable(512)
        .writable(1)
        .offer();
    driver.kick(0);
    if (round % 2 == 0) {
      EXPECT_TRUE(wait_for([&] { return driver.ring(0).used_index() == 1; })) << round;
    }
  }
  done = true;
  first.join();
  second.join();
  EXPECT_FALSE(driver.needs_reset());
  end_loop();
  transport_->stop();
}

// The driver kicks only when the device has asked for it, at the very moment when the device looks
// for more: a lost kick stops the exchange.
TEST_F(VirtioThreads, event_index_loses_no_kick) {
  RngDevice device("rng");
  start(device);
  VirtioDriverFake driver(*transport_, arena_);
  ASSERT_TRUE(driver.start(8));
  test::RingFake& ring = driver.ring(0);
  const std::uint64_t mark = arena_.mark();
  for (int round = 0; round < 100 * kRounds; ++round) {
    arena_.rewind(mark);
    ChainBuilder(ring).writable(8).offer();
    if (ring.kick_wanted()) driver.kick(0);
    ASSERT_TRUE(wait_for([&] { return ring.take_used().has_value(); })) << round;
  }
  end_loop();
  transport_->stop();
}

// The driver asks for an interrupt at the very moment when the device gives a chain back, looks
// once more, and then trusts the interrupt to come.
TEST_F(VirtioThreads, event_index_loses_no_interrupt) {
  RngDevice device("rng");
  start(device);
  VirtioDriverFake driver(*transport_, arena_);
  ASSERT_TRUE(driver.start(8));
  test::RingFake& ring = driver.ring(0);
  const std::uint64_t mark = arena_.mark();
  for (int round = 0; round < 20 * kRounds; ++round) {
    arena_.rewind(mark);
    const int before = interrupts_;
    ChainBuilder(ring).writable(8).offer();
    if (ring.kick_wanted()) driver.kick(0);
    for (int i = round % 64; i > 0; --i) driver.interrupt_status();  // wander through the window
    ring.set_used_event(ring.last_used());
    if (ring.used_index() == ring.last_used()) {
      ASSERT_TRUE(wait_for([&] { return interrupts_ != before; })) << round;
    }
    ASSERT_TRUE(wait_for([&] { return ring.take_used().has_value(); })) << round;
  }
  end_loop();
  transport_->stop();
}

TEST_F(VirtioThreads, stop_on_the_loop_while_both_vcpus_go_on) {
  for (int round = 0; round < 20; ++round) {
    RngDevice device("rng");
    loop_ = must(EventLoop::create());
    arena_.rewind();
    start(device);
    std::atomic<bool> done{false};
    const auto vcpu = [&] {
      VirtioDriverFake driver(*transport_, arena_);
      while (!done) {
        driver.kick(0);
        driver.status();
      }
    };
    VirtioDriverFake driver(*transport_, arena_);
    ASSERT_TRUE(driver.start(8));
    std::thread first(vcpu), second(vcpu);
    std::atomic<bool> stopped{false};
    loop_->post([&] {
      transport_->stop();
      stopped = true;
    });
    EXPECT_TRUE(wait_for([&] { return stopped.load(); }));
    const std::uint16_t used = driver.ring(0).used_index();
    ChainBuilder(driver.ring(0)).writable(8).offer();
    driver.kick(0);
    done = true;
    first.join();
    second.join();
    end_loop();
    EXPECT_EQ(driver.ring(0).used_index(), used);
    transport_.reset();
  }
}

TEST_F(VirtioThreads, late_disk_is_bound_while_the_driver_reads_the_config) {
  auto device =
      must(BlkDevice::create({.name = "blk", .serial = "s", .access = Access::kReadOnly}, nullptr));
  start(*device);
  VirtioDriverFake driver(*transport_, arena_);
  ASSERT_TRUE(driver.start(8));
  std::thread control([&] {
    auto file = must(memory_file("disk", std::vector<std::byte>(1 << 20)));
    must(device->bind(must(FileBackend::create(std::move(file), Access::kReadOnly))));
  });
  EXPECT_TRUE(wait_for([&] { return driver.read_config<std::uint64_t>(0) == 2048; }));
  control.join();
  EXPECT_EQ(interrupts_, 1);
  end_loop();
  transport_->stop();
}

}  // namespace
}  // namespace sm
