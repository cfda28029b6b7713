#include "vmm/virtio/rng/device.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "support/virtio_conformance.h"

namespace sm {
namespace {

using test::BuiltChain;
using test::ChainBuilder;
using test::GuestArena;
using test::must;

struct RngHarness {
  static constexpr std::uint32_t kEagerQueues = 1;
  static std::unique_ptr<VirtioDevice> make(GuestMemory&, EventLoop&, Log&) {
    return std::make_unique<RngDevice>("rng");
  }
};

class RngTest : public ::testing::Test {
 protected:
  RngTest() {
    device_.attach(interrupt_, lock_);
    must(device_.activate(
        {.features = 0, .queues = {must(Queue::create(*memory_, ring_.config(), 64))}}));
  }
  std::unique_ptr<GuestMemory> memory_ = must(GuestMemory::create(4 << 20));
  GuestArena arena_{*memory_};
  test::RingFake ring_{arena_, 16};
  test::InterruptFake interrupt_;
  std::mutex lock_;
  RngDevice device_{"rng"};
};

TEST_F(RngTest, request_is_filled) {
  const BuiltChain first = ChainBuilder(ring_).writable(32).writable(32).offer();
  const BuiltChain second = ChainBuilder(ring_).writable(64).offer();
  EXPECT_FALSE(must(device_.process_queue(0)));
  EXPECT_EQ(ring_.take_used()->length, 64u);
  EXPECT_EQ(ring_.take_used()->length, 64u);
  const auto a = first.written(*memory_, 0, 64);
  EXPECT_NE(a, std::vector<std::byte>(64));
  EXPECT_NE(a, second.written(*memory_, 0, 64));
  EXPECT_EQ(interrupt_.used_buffers_count, 1);
}

TEST_F(RngTest, large_request_is_answered_up_to_the_limit) {
  const BuiltChain built = ChainBuilder(ring_).writable(1 << 20).offer();
  must(device_.process_queue(0));
  EXPECT_EQ(ring_.take_used()->length, RngDevice::kMaxBytesPerRequest);
  const auto rest = built.written(*memory_, RngDevice::kMaxBytesPerRequest, 4096);
  EXPECT_EQ(rest, std::vector<std::byte>(4096));
}

TEST_F(RngTest, request_without_room_is_completed_empty) {
  ChainBuilder(ring_).readable("not asked for").offer();
  must(device_.process_queue(0));
  EXPECT_EQ(ring_.take_used()->length, 0u);
}

TEST_F(RngTest, one_turn_handles_a_bounded_number) {
  for (int i = 0; i < RngDevice::kMaxChainsPerTurn + 1; ++i)
    ChainBuilder(ring_).writable(8).offer();
  EXPECT_TRUE(must(device_.process_queue(0)));
  EXPECT_EQ(ring_.used_index(), RngDevice::kMaxChainsPerTurn);
  EXPECT_FALSE(must(device_.process_queue(0)));
  EXPECT_EQ(ring_.used_index(), RngDevice::kMaxChainsPerTurn + 1);
}

}  // namespace
}  // namespace sm

namespace sm::test {
INSTANTIATE_TYPED_TEST_SUITE_P(Rng, VirtioConformance, RngHarness);
}  // namespace sm::test
