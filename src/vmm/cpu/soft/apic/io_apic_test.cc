#include "vmm/cpu/soft/apic/io_apic.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "vmm/cpu/soft/apic/apic_fakes.h"
#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {
namespace {

constexpr std::uint32_t kLevel = 1u << 15, kMasked = 1u << 16, kLogical = 1u << 11,
                        kRemoteIrr = 1u << 14;

class Pins : public ::testing::Test {
 protected:
  Pins() { m.enable(true); }
  std::uint32_t read(std::uint32_t index) {
    io().write_mmio(0, 4, index);
    return io().read_mmio(0x10, 4);
  }
  void write(std::uint32_t index, std::uint32_t value) {
    io().write_mmio(0, 4, index);
    io().write_mmio(0x10, 4, value);
  }
  void route(std::uint32_t pin, std::uint32_t low, std::uint32_t destination = 0) {
    write(0x11 + pin * 2, destination << 24);
    write(0x10 + pin * 2, low);
  }
  IoApic& io() { return m.io_apic; }
  FakeMachine m{3};
};

TEST_F(Pins, identification) {
  EXPECT_EQ(read(1), 0x00170011u);
  write(0, 0xFF123456);
  EXPECT_EQ(read(0), 0x0F000000u);
  EXPECT_EQ(read(0x10), kMasked);
  EXPECT_EQ(read(0x3F), 0u);
  EXPECT_EQ(read(0x40), 0u);
  EXPECT_EQ(read(0xFF), 0u);
  EXPECT_EQ(io().read_mmio(0, 4), 0xFFu);
}

TEST_F(Pins, odd_accesses_do_nothing) {
  route(4, 0x44);
  io().write_mmio(0, 4, 0x18);
  io().write_mmio(0x10, 1, 0xFF);
  io().write_mmio(0x14, 4, 0xFF);
  io().write_mmio(0x10, 8, 0xFF);
  EXPECT_EQ(io().read_mmio(0x14, 4), 0u);
  EXPECT_EQ(io().read_mmio(0x10, 2), 0u);
  EXPECT_EQ(read(0x18), 0x44u);
}

TEST_F(Pins, each_edge_interrupts_once) {
  route(4, 0x44, 1);
  io().trigger(4);
  EXPECT_EQ(m.take(1), 0x44);
  m.eoi(1);
  EXPECT_EQ(m.take(1), -1);
  io().trigger(4);
  io().trigger(4);  // while the first is still wanted: one
  EXPECT_EQ(m.take(1), 0x44);
  io().trigger(4);  // while it is served: another
  m.eoi(1);
  EXPECT_EQ(m.take(1), 0x44);
}

TEST_F(Pins, a_held_line_is_one_edge) {
  route(4, 0x44);
  io().set_level(4, true);
  EXPECT_EQ(m.take(), 0x44);
  m.eoi();
  io().set_level(4, true);
  EXPECT_EQ(m.take(), -1);
  io().set_level(4, false);
  EXPECT_EQ(m.take(), -1);
  io().set_level(4, true);
  EXPECT_EQ(m.take(), 0x44);
}

TEST_F(Pins, an_edge_of_a_masked_pin_is_lost) {
  route(4, 0x44 | kMasked);
  io().trigger(4);
  route(4, 0x44);
  EXPECT_EQ(m.take(), -1);
  io().trigger(4);
  EXPECT_EQ(m.take(), 0x44);
}

TEST_F(Pins, pins_that_do_not_exist_are_ignored) {
  io().trigger(24);
  io().trigger(~0u);
  io().set_level(31, true);
  EXPECT_EQ(m.take(), -1);
}

TEST_F(Pins, a_level_interrupts_again_after_its_end_while_the_line_is_high) {
  route(7, 0x57 | kLevel, 2);
  io().set_level(7, true);
  EXPECT_EQ(read(0x10 + 14), 0x57u | kLevel | kRemoteIrr);
  EXPECT_EQ(m.take(2), 0x57);
  io().set_level(7, true);
  EXPECT_EQ(m.take(2), -1);
  m.eoi(2);
  EXPECT_EQ(m.take(2), 0x57);
  io().set_level(7, false);
  m.eoi(2);
  EXPECT_EQ(m.take(2), -1);
  EXPECT_EQ(read(0x10 + 14), 0x57u | kLevel);
}

TEST_F(Pins, a_masked_level_waits_for_the_mask_to_go) {
  route(7, 0x57 | kLevel | kMasked);
  io().set_level(7, true);
  EXPECT_EQ(m.take(), -1);
  write(0x10 + 14, 0x57 | kLevel);
  EXPECT_EQ(m.take(), 0x57);
}

TEST_F(Pins, the_end_of_an_edge_leaves_level_pins_alone) {
  route(7, 0x57 | kLevel);
  route(4, 0x44);
  io().set_level(7, true);
  EXPECT_EQ(m.take(), 0x57);
  io().end_of_interrupt(0x44);
  EXPECT_NE(read(0x10 + 14) & kRemoteIrr, 0u);
}

TEST_F(Pins, becoming_edge_triggered_forgets_the_pending_end) {
  route(7, 0x57 | kLevel);
  io().set_level(7, true);
  write(0x10 + 14, 0x57 | kMasked);
  write(0x10 + 14, 0x57 | kMasked | kLevel);
  EXPECT_EQ(read(0x10 + 14) & kRemoteIrr, 0u);
}

TEST_F(Pins, read_only_bits_cannot_be_written) {
  write(0x10, 0xFFFFFFFF);
  EXPECT_EQ(read(0x10), 0x1AFFFu & ~(1u << 12));
  write(0x11, 0xFFFFFFFF);
  EXPECT_EQ(read(0x11), 0xFF000000u);
}

TEST_F(Pins, a_level_that_nobody_took_may_come_again) {
  route(7, 0x57 | kLevel, 9);  // there is no such APIC
  io().set_level(7, true);
  EXPECT_EQ(read(0x10 + 14) & kRemoteIrr, 0u);
  write(0x11 + 14, 1u << 24);
  EXPECT_EQ(m.take(1), 0x57);
}

TEST_F(Pins, logical_and_broadcast_destinations) {
  route(5, 0x65 | kLogical, 0b110);
  io().trigger(5);
  EXPECT_EQ(m.take(0), -1);
  EXPECT_EQ(m.take(1), 0x65);
  EXPECT_EQ(m.take(2), 0x65);
  route(6, 0x76, 0xFF);
  io().trigger(6);
  for (std::uint32_t i = 0; i < 3; ++i) EXPECT_EQ(m.take(i), 0x76);
}

TEST_F(Pins, nmi_mode) {
  m.sink.take(1);
  route(5, 4u << 8, 1);
  io().trigger(5);
  EXPECT_EQ(m.sink.take(1), kAttentionNmi);
}

TEST_F(Pins, state_round_trip) {
  write(0, 0x03000000);
  route(7, 0x57 | kLevel, 2);
  route(4, 0x44, 1);
  io().set_level(7, true);
  const IoApicState state = io().state();
  EXPECT_EQ(state.lines, 1u << 7);
  EXPECT_EQ(state.id, 3u);

  FakeMachine other(3);
  other.enable(true);
  other.io_apic.set_state(state);
  EXPECT_EQ(other.io_apic.state(), state);
  EXPECT_EQ(other.take(2), -1);  // its request is in the local APIC's state
  other.io_apic.end_of_interrupt(0x57);
  EXPECT_EQ(other.take(2), 0x57);
}

TEST_F(Pins, hostile_state_is_trimmed) {
  IoApicState state{.id = ~0u, .select = ~0u, .lines = ~0u};
  state.redirection.fill(~0ull);
  io().set_state(state);
  const IoApicState taken = io().state();
  EXPECT_EQ(taken.lines, 0xFFFFFFu);
  EXPECT_EQ(taken.redirection[3], 0xFF0000000001FFFFu);
  for (std::uint32_t vector = 0; vector < 256; ++vector) {
    io().end_of_interrupt(static_cast<std::uint8_t>(vector));
  }
}

// Two devices share a pin: an edge that is given after the last service is never lost.
TEST(SharedPin, edges_of_several_threads_are_not_lost) {
  constexpr int kRounds = 20'000;
  FakeMachine m;
  struct Sink final : AttentionSink {
    void post(std::uint32_t, std::uint32_t) override {}
  } sink;
  ApicBus bus;
  IoApic io_apic(bus);
  LocalApic apic({.index = 0, .sink = sink, .bus = bus, .clock = m.clock, .timers = m.timers});
  bus.attach(apic);
  apic.write_mmio(0xF0, 4, 0x1FF);
  io_apic.write_mmio(0, 4, 0x10);
  io_apic.write_mmio(0x10, 4, 0x40);
  std::atomic<int> wanted{0};
  const auto device = [&] {
    for (int i = 0; i < kRounds; ++i) {
      wanted.fetch_add(1);
      io_apic.trigger(0);
    }
  };
  int served = 0;
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  {
    std::jthread first(device), second(device);
    while (served < 2 * kRounds && std::chrono::steady_clock::now() < give_up) {
      const auto vector = apic.highest_deliverable();
      if (!vector) {
        std::this_thread::yield();
        continue;
      }
      apic.acknowledge(*vector);
      served += wanted.exchange(0);  // what a driver does: everything that is there
      apic.write_mmio(0xB0, 4, 0);
    }
  }
  EXPECT_EQ(served, 2 * kRounds);
}

}  // namespace
}  // namespace sm::soft
