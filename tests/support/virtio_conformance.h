// What every virtio device must do behind the transport, whatever its driver does: one typed suite,
// instantiated beside each device:
//
//   struct RngHarness {
//     static constexpr std::uint32_t kEagerQueues = 1;   // bit i: a kick makes it pop queue i
//     static std::unique_ptr<VirtioDevice> make(GuestMemory&, EventLoop&, Log&);
//   };
//   INSTANTIATE_TYPED_TEST_SUITE_P(Rng, VirtioConformance, RngHarness);
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <random>

#include "base/log.h"
#include "support/virtio_driver_fake.h"
#include "vmm/virtio/mmio_transport.h"

namespace sm::test {

inline constexpr std::uint32_t kPageBytes = 0x1000;

template <class Harness>
class VirtioConformance : public ::testing::Test {
 protected:
  std::unique_ptr<MmioTransport> make_transport() {
    return must(MmioTransport::create(
        {*device_, *memory_, std::make_unique<IrqLineFake>(interrupts_), *loop_, log_}));
  }
  std::uint32_t queue_count() {
    return static_cast<std::uint32_t>(device_->queue_max_sizes().size());
  }
  std::uint32_t page_register(std::mt19937_64& random) {
    return static_cast<std::uint32_t>(random() % (0x120 / 4)) * 4;
  }
  // Lets everything happen that is due.
  void settle() {
    for (int i = 0; i < 8; ++i) loop_->run_once(Deadline::after(std::chrono::nanoseconds(0)));
  }
  // The device works (again): a driver can start it.
  void expect_usable() {
    driver_.reset();
    EXPECT_EQ(driver_.status(), 0u);
    arena_.rewind();
    EXPECT_TRUE(driver_.start());
    settle();
    EXPECT_FALSE(driver_.needs_reset());
  }
  // After set-up with one bad queue the device must say that it cannot go on.
  void expect_activation_fails() {
    const int before = interrupts_;
    driver_.driver_ok();
    EXPECT_TRUE(driver_.needs_reset());
    EXPECT_NE(driver_.interrupt_status() & VIRTIO_MMIO_INT_CONFIG, 0u);
    EXPECT_GT(interrupts_, before);
    for (std::uint32_t i = 0; i < queue_count(); ++i) driver_.kick(i);
    settle();
    expect_usable();
  }
  void negotiate() { ASSERT_TRUE(driver_.negotiate(driver_.offered_features())); }

  std::unique_ptr<GuestMemory> memory_ = must(GuestMemory::create(16 << 20));
  std::unique_ptr<EventLoop> loop_ = must(EventLoop::create());
  Log log_ = Log::none();
  std::unique_ptr<VirtioDevice> device_ = Harness::make(*memory_, *loop_, log_);
  std::atomic<int> interrupts_{0};
  GuestArena arena_{*memory_};
  std::unique_ptr<MmioTransport> transport_ = make_transport();
  VirtioDriverFake driver_{*transport_, arena_};
};

TYPED_TEST_SUITE_P(VirtioConformance);

TYPED_TEST_P(VirtioConformance, identity_registers) {
  auto& driver = this->driver_;
  EXPECT_EQ(driver.read32(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976u);
  EXPECT_EQ(driver.read32(VIRTIO_MMIO_VERSION), 2u);
  EXPECT_EQ(driver.read32(VIRTIO_MMIO_DEVICE_ID),
            static_cast<std::uint32_t>(this->device_->type()));
  EXPECT_EQ(driver.status(), 0u);
  EXPECT_EQ(driver.interrupt_status(), 0u);
  EXPECT_EQ(driver.read32(VIRTIO_MMIO_SHM_LEN_LOW), 0xffffffffu);
  EXPECT_EQ(driver.read32(VIRTIO_MMIO_SHM_LEN_HIGH), 0xffffffffu);
}

TYPED_TEST_P(VirtioConformance, queue_sizes_are_powers_of_two_and_end) {
  for (std::uint32_t i = 0; i < this->queue_count(); ++i) {
    EXPECT_TRUE(is_power_of_two(this->driver_.queue_max(i))) << i;
  }
  for (const std::uint32_t i : {this->queue_count(), 0x7fffffffu, 0xffffffffu}) {
    EXPECT_EQ(this->driver_.queue_max(i), 0) << i;
    EXPECT_EQ(this->driver_.read32(VIRTIO_MMIO_QUEUE_READY), 0u) << i;
  }
}

TYPED_TEST_P(VirtioConformance, offered_transport_features_are_known) {
  constexpr std::uint64_t kTransportBits = ((1ull << 42) - 1) & ~((1ull << 24) - 1);
  constexpr std::uint64_t kKnown = kVirtioVersion1 | kRingEventIdx | kRingIndirectDesc;
  const std::uint64_t offered = this->driver_.offered_features();
  EXPECT_NE(offered & kVirtioVersion1, 0u);
  EXPECT_EQ(offered & kTransportBits & ~kKnown, 0u);
  this->driver_.write32(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
  EXPECT_EQ(this->driver_.read32(VIRTIO_MMIO_DEVICE_FEATURES), 0u);
}

TYPED_TEST_P(VirtioConformance, features_that_were_not_offered_are_refused) {
  auto& driver = this->driver_;
  const std::uint64_t offered = driver.offered_features();
  for (unsigned i = 0; i < 64; ++i) {
    if ((offered >> i & 1) != 0) continue;
    driver.reset();
    EXPECT_FALSE(driver.negotiate(offered | 1ull << i)) << i;
  }
  driver.reset();
  EXPECT_FALSE(driver.negotiate(offered & ~kVirtioVersion1));
  driver.reset();
  EXPECT_FALSE(driver.negotiate(0));
  this->expect_usable();
}

TYPED_TEST_P(VirtioConformance, every_offered_feature_can_be_left_off) {
  const std::uint64_t offered = this->driver_.offered_features();
  for (unsigned i = 0; i < 64; ++i) {
    if ((offered >> i & 1) == 0 || (1ull << i) == kVirtioVersion1) continue;
    this->driver_.reset();
    this->arena_.rewind();
    EXPECT_TRUE(this->driver_.start(16, 1ull << i)) << i;
    this->settle();
    EXPECT_FALSE(this->driver_.needs_reset()) << i;
  }
}

TYPED_TEST_P(VirtioConformance, status_out_of_order_is_ignored) {
  auto& driver = this->driver_;
  for (const std::uint32_t early : std::initializer_list<std::uint32_t>{
           VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_DRIVER_OK,
           VIRTIO_CONFIG_S_NEEDS_RESET}) {
    driver.write32(VIRTIO_MMIO_STATUS, early);
    EXPECT_EQ(driver.status(), 0u) << early;
  }
  driver.add_status(VIRTIO_CONFIG_S_ACKNOWLEDGE);
  driver.add_status(VIRTIO_CONFIG_S_DRIVER_OK);
  EXPECT_EQ(driver.status(), std::uint32_t{VIRTIO_CONFIG_S_ACKNOWLEDGE});
  driver.add_status(VIRTIO_CONFIG_S_DRIVER);
  driver.write32(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_DRIVER);  // would clear ACKNOWLEDGE
  EXPECT_EQ(driver.status(), std::uint32_t{VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER});
  driver.add_status(0xffffff30);
  EXPECT_EQ(driver.status(), std::uint32_t{VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER});
  this->expect_usable();
}

TYPED_TEST_P(VirtioConformance, failed_status_ends_only_with_reset) {
  ASSERT_TRUE(this->driver_.start());
  this->driver_.add_status(VIRTIO_CONFIG_S_FAILED);
  for (std::uint32_t i = 0; i < this->queue_count(); ++i) this->driver_.kick(i);
  this->settle();
  EXPECT_NE(this->driver_.status() & VIRTIO_CONFIG_S_FAILED, 0u);
  this->expect_usable();
}

TYPED_TEST_P(VirtioConformance, reset_at_every_step_starts_over) {
  for (int steps = 0; steps <= 6; ++steps) {
    auto& driver = this->driver_;
    this->arena_.rewind();
    if (steps > 0) driver.add_status(VIRTIO_CONFIG_S_ACKNOWLEDGE);
    if (steps > 1) driver.add_status(VIRTIO_CONFIG_S_DRIVER);
    if (steps > 2) driver.negotiate(driver.offered_features());
    if (steps > 3) driver.add_queue(0, 8);
    if (steps > 4) driver.driver_ok();
    if (steps > 5) driver.kick(0);
    this->expect_usable();
    driver.reset();
  }
}

TYPED_TEST_P(VirtioConformance, reset_forgets_queues_and_interrupts) {
  auto& driver = this->driver_;
  ASSERT_TRUE(driver.start());
  driver.reset();
  EXPECT_EQ(driver.interrupt_status(), 0u);
  ASSERT_TRUE(driver.negotiate(driver.offered_features()));
  for (std::uint32_t i = 0; i < this->queue_count(); ++i) {
    driver.queue_max(i);
    EXPECT_EQ(driver.read32(VIRTIO_MMIO_QUEUE_READY), 0u) << i;
  }
}

TYPED_TEST_P(VirtioConformance, after_reset_no_guest_memory_is_touched) {
  auto& driver = this->driver_;
  ASSERT_TRUE(driver.start(16));
  std::vector<GuestPhysAddr> used;
  for (std::uint32_t i = 0; i < this->queue_count(); ++i) {
    ChainBuilder(driver.ring(i)).writable(64).offer();
    used.push_back(driver.ring(i).used());
  }
  for (std::uint32_t i = 0; i < this->queue_count(); ++i) driver.kick(i);
  driver.reset();  // before the loop had a turn
  const std::vector<std::byte> marks(ring::used_bytes(16), std::byte{0xa5});
  for (const GuestPhysAddr at : used) must(this->memory_->write(at, marks));
  for (std::uint32_t i = 0; i < this->queue_count(); ++i) driver.kick(i);
  this->settle();
  for (const GuestPhysAddr at : used) {
    std::vector<std::byte> now(marks.size());
    must(this->memory_->read(at, now));
    EXPECT_EQ(now, marks);
  }
}

TYPED_TEST_P(VirtioConformance, notify_before_driver_ok_does_nothing) {
  auto& driver = this->driver_;
  this->negotiate();
  for (std::uint32_t i = 0; i < this->queue_count(); ++i) {
    ChainBuilder(driver.add_queue(i, 8)).writable(64).offer();
    driver.kick(i);
  }
  for (const std::uint32_t i : {this->queue_count(), 0xffffu, 0xffffffffu}) driver.kick(i);
  this->settle();
  for (std::uint32_t i = 0; i < this->queue_count(); ++i) {
    EXPECT_EQ(driver.ring(i).used_index(), 0) << i;
  }
  EXPECT_EQ(this->interrupts_, 0);
}

TYPED_TEST_P(VirtioConformance, driver_ok_twice_activates_once) {
  auto& driver = this->driver_;
  ASSERT_TRUE(driver.start());
  const std::uint32_t status = driver.status();
  driver.driver_ok();
  driver.write32(VIRTIO_MMIO_STATUS, status);
  EXPECT_EQ(driver.status(), status);
  this->settle();
  EXPECT_FALSE(driver.needs_reset());
}

TYPED_TEST_P(VirtioConformance, queues_left_off_are_accepted_or_refused) {
  this->negotiate();
  this->driver_.driver_ok();
  for (std::uint32_t i = 0; i < this->queue_count(); ++i) this->driver_.kick(i);
  this->settle();
  this->expect_usable();
}

TYPED_TEST_P(VirtioConformance, config_reads_of_any_offset_and_size) {
  const std::uint32_t space = kPageBytes - VIRTIO_MMIO_CONFIG;
  std::vector<std::byte> whole(space);
  for (std::uint32_t at = 0; at < space; ++at) {
    this->transport_->read(VIRTIO_MMIO_CONFIG + at, std::span(whole).subspan(at, 1));
  }
  for (const std::uint32_t size : {2u, 4u, 8u}) {
    for (std::uint32_t at = 0; at + size <= space; ++at) {
      std::vector<std::byte> part(size, std::byte{0xee});
      this->transport_->read(VIRTIO_MMIO_CONFIG + at, part);
      ASSERT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + at)) << at << "+" << size;
    }
  }
  EXPECT_EQ(whole.back(), std::byte{0});
}

TYPED_TEST_P(VirtioConformance, config_writes_of_any_offset_and_size) {
  for (const std::uint32_t size : {1u, 2u, 4u, 8u}) {
    const std::vector<std::byte> ones(size, std::byte{0xff});
    for (std::uint64_t at = VIRTIO_MMIO_CONFIG; at + size <= kPageBytes; ++at) {
      this->transport_->write(at, ones);
    }
  }
  this->expect_usable();
}

TYPED_TEST_P(VirtioConformance, registers_accept_only_aligned_words) {
  for (const std::uint64_t offset : {0ull, 1ull, 2ull, 0x6full, 0x70ull, 0x71ull}) {
    for (const std::size_t size : {1u, 2u, 8u}) {
      std::vector<std::byte> bytes(size, std::byte{0xff});
      this->transport_->write(offset, bytes);
      this->transport_->read(offset, bytes);
      EXPECT_EQ(bytes, std::vector<std::byte>(size)) << offset << "+" << size;
    }
  }
  std::vector<std::byte> word(4, std::byte{0xff});
  this->transport_->read(2, word);
  EXPECT_EQ(word, std::vector<std::byte>(4));
  EXPECT_EQ(this->driver_.status(), 0u);
}

TYPED_TEST_P(VirtioConformance, bad_queue_sizes_need_a_reset) {
  auto& driver = this->driver_;
  const std::uint32_t max = driver.queue_max(0);
  for (const std::uint32_t size : {0u, 3u, max + 1, max * 2, 0x10008u, 0x80000000u, 0xffffffffu}) {
    driver.reset();
    this->negotiate();
    const RingFake ring(this->arena_, 8);
    driver.set_queue(0, size, ring.descriptors(), ring.available(), ring.used());
    this->expect_activation_fails();
  }
}

TYPED_TEST_P(VirtioConformance, bad_ring_addresses_need_a_reset) {
  auto& driver = this->driver_;
  const std::uint64_t end = this->memory_->size();
  const std::uint64_t bad[] = {0x10001,    end,       end - 16,       end - 1,      0xd000'0000,
                               1ull << 40, ~0ull - 7, ~0ull & ~15ull, 0xffff'fff0u, 1ull << 63};
  for (const std::uint64_t address : bad) {
    for (int which = 0; which < 3; ++which) {
      driver.reset();
      this->arena_.rewind();
      this->negotiate();
      const RingFake ring(this->arena_, 8);
      GuestPhysAddr at[] = {ring.descriptors(), ring.available(), ring.used()};
      at[which] = GuestPhysAddr(address);
      driver.set_queue(0, 8, at[0], at[1], at[2]);
      this->expect_activation_fails();
    }
  }
}

TYPED_TEST_P(VirtioConformance, queue_registers_are_fixed_once_ready) {
  auto& driver = this->driver_;
  this->negotiate();
  for (std::uint32_t i = 0; i < this->queue_count(); ++i) driver.add_queue(i, 8);
  const auto spoil = [&] {
    for (std::uint32_t i = 0; i < this->queue_count(); ++i) {
      driver.write32(VIRTIO_MMIO_QUEUE_SEL, i);
      for (const std::uint64_t offset : std::initializer_list<std::uint64_t>{
               VIRTIO_MMIO_QUEUE_NUM, VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_DESC_HIGH,
               VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
               VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_MMIO_QUEUE_USED_HIGH}) {
        driver.write32(offset, 0xffffffff);
      }
    }
  };
  spoil();
  driver.driver_ok();
  EXPECT_FALSE(driver.needs_reset());
  spoil();
  driver.write32(VIRTIO_MMIO_QUEUE_READY, 0);
  EXPECT_EQ(driver.read32(VIRTIO_MMIO_QUEUE_READY), 1u);
  this->settle();
  EXPECT_FALSE(driver.needs_reset());
}

TYPED_TEST_P(VirtioConformance, queue_registers_are_closed_before_features_ok) {
  auto& driver = this->driver_;
  const RingFake ring(this->arena_, 8);
  driver.set_queue(0, 8, ring.descriptors(), ring.available(), ring.used());
  EXPECT_EQ(driver.read32(VIRTIO_MMIO_QUEUE_READY), 0u);
}

TYPED_TEST_P(VirtioConformance, impossible_available_index_needs_a_reset) {
  auto& driver = this->driver_;
  for (std::uint32_t i = 0; i < this->queue_count(); ++i) {
    driver.reset();
    this->arena_.rewind();
    ASSERT_TRUE(driver.start(8));
    this->settle();
    driver.ring(i).set_available_index(0x8000);
    driver.kick(i);
    this->settle();
    if ((TypeParam::kEagerQueues >> i & 1) != 0) {
      EXPECT_TRUE(driver.needs_reset()) << "queue " << i;
      EXPECT_NE(driver.interrupt_status() & VIRTIO_MMIO_INT_CONFIG, 0u);
    }
    this->expect_usable();
  }
}

TYPED_TEST_P(VirtioConformance, after_needs_reset_nothing_is_processed) {
  auto& driver = this->driver_;
  ASSERT_TRUE(driver.start(8));
  std::uint32_t eager = 0;
  while ((TypeParam::kEagerQueues >> eager & 1) == 0) ++eager;
  driver.ring(eager).set_available_index(0x8000);
  driver.kick(eager);
  this->settle();
  ASSERT_TRUE(driver.needs_reset());
  for (std::uint32_t i = 0; i < this->queue_count(); ++i) {
    driver.ring(i).clear();
    ChainBuilder(driver.ring(i)).readable("x").writable(64).offer();
    driver.kick(i);
  }
  this->settle();
  for (std::uint32_t i = 0; i < this->queue_count(); ++i) {
    EXPECT_EQ(driver.ring(i).used_index(), 0) << i;
  }
  this->expect_usable();
}

TYPED_TEST_P(VirtioConformance, random_chains_are_survived) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    std::mt19937_64 random(seed);
    auto& driver = this->driver_;
    driver.reset();
    this->arena_.rewind();
    ASSERT_TRUE(driver.start(16));
    for (std::uint32_t i = 0; i < this->queue_count(); ++i) {
      RingFake& ring = driver.ring(i);
      for (std::uint16_t d = 0; d < 16; ++d) {
        // Mostly plausible, so that the walk gets somewhere.
        const std::uint64_t address = random() % 8 == 0 ? random() : random() % (17 << 20);
        const auto length =
            static_cast<std::uint32_t>(random() % 16 == 0 ? random() : random() % 200);
        const auto flags = static_cast<std::uint16_t>(random() % 16 == 0 ? random() : random() % 4);
        const auto next = static_cast<std::uint16_t>(random() % 17);
        ring.set_descriptor(d, {address, length, flags, next});
        ring.set_available_entry(d, static_cast<std::uint16_t>(random() % 16));
      }
      ring.set_available_index(static_cast<std::uint16_t>(random() % 17));
      driver.kick(i);
    }
    this->settle();
  }
  this->expect_usable();
}

TYPED_TEST_P(VirtioConformance, random_register_accesses_are_survived) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random(seed);
    auto& driver = this->driver_;
    for (int i = 0; i < 5000; ++i) {
      const std::uint32_t at = this->page_register(random);
      auto value = static_cast<std::uint32_t>(random());
      if (random() % 2 == 0) value &= 0xf;
      if (random() % 4 == 0) {
        driver.read32(at);
      } else {
        driver.write32(at, value);
      }
      if (i % 500 == 0) driver.negotiate(driver.offered_features());
      if (i % 1000 == 0) this->settle();
    }
  }
  this->expect_usable();
}

TYPED_TEST_P(VirtioConformance, after_stop_registers_and_kicks_have_no_effect) {
  auto& driver = this->driver_;
  ASSERT_TRUE(driver.start(8));
  for (std::uint32_t i = 0; i < this->queue_count(); ++i) {
    ChainBuilder(driver.ring(i)).writable(64).offer();
    driver.kick(i);
  }
  this->transport_->stop();
  this->transport_->stop();
  driver.kick(0);
  this->settle();
  for (std::uint32_t i = 0; i < this->queue_count(); ++i) {
    EXPECT_EQ(driver.ring(i).used_index(), 0) << i;
  }
  driver.add_status(VIRTIO_CONFIG_S_ACKNOWLEDGE);
  EXPECT_EQ(driver.status(), 0u);
}

REGISTER_TYPED_TEST_SUITE_P(
    VirtioConformance, identity_registers, queue_sizes_are_powers_of_two_and_end,
    offered_transport_features_are_known, features_that_were_not_offered_are_refused,
    every_offered_feature_can_be_left_off, status_out_of_order_is_ignored,
    failed_status_ends_only_with_reset, reset_at_every_step_starts_over,
    reset_forgets_queues_and_interrupts, after_reset_no_guest_memory_is_touched,
    notify_before_driver_ok_does_nothing, driver_ok_twice_activates_once,
    queues_left_off_are_accepted_or_refused, config_reads_of_any_offset_and_size,
    config_writes_of_any_offset_and_size, registers_accept_only_aligned_words,
    bad_queue_sizes_need_a_reset, bad_ring_addresses_need_a_reset,
    queue_registers_are_fixed_once_ready, queue_registers_are_closed_before_features_ok,
    impossible_available_index_needs_a_reset, after_needs_reset_nothing_is_processed,
    random_chains_are_survived, random_register_accesses_are_survived,
    after_stop_registers_and_kicks_have_no_effect);

}  // namespace sm::test
