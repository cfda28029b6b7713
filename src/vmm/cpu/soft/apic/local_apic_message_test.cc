// Messages between APICs: destinations, delivery modes, start-up.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <set>
#include <thread>

#include "vmm/cpu/soft/apic/apic_fakes.h"
#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {
namespace {

constexpr std::uint64_t kShortSelf = 1u << 18, kShortAll = 2u << 18, kShortOthers = 3u << 18;
constexpr std::uint64_t kLogical = 1u << 11, kNmi = 4u << 8, kInit = 5u << 8, kStartup = 6u << 8;

// Which of the vCPUs have the interrupt.
std::set<std::uint32_t> receivers(FakeMachine& m, int vector) {
  std::set<std::uint32_t> who;
  for (std::uint32_t i = 0; i < m.apics.size(); ++i) {
    if (m.take(i) != vector) continue;
    who.insert(i);
    m.eoi(i);
  }
  return who;
}
std::set<std::uint32_t> posted(FakeMachine& m, std::uint32_t bit) {
  std::set<std::uint32_t> who;
  for (std::uint32_t i = 0; i < m.apics.size(); ++i) {
    if ((m.sink.take(i) & bit) != 0) who.insert(i);
  }
  return who;
}

void send_xapic(FakeMachine& m, std::uint32_t from, std::uint8_t to, std::uint64_t low) {
  m.apic(from).write_mmio(0x310, 4, std::uint32_t{to} << 24);
  m.apic(from).write_mmio(0x300, 4, static_cast<std::uint32_t>(low));
}
void send_x2apic(FakeMachine& m, std::uint32_t from, std::uint64_t to, std::uint64_t low) {
  ASSERT_TRUE(m.apic(from).write_x2apic(0x830, to << 32 | low));
}

using Set = std::set<std::uint32_t>;

TEST(Ipi, physical_destinations) {
  FakeMachine m(4);
  m.enable(false);
  send_xapic(m, 0, 2, 0x41);
  EXPECT_EQ(receivers(m, 0x41), (Set{2}));
  send_xapic(m, 1, 0xFF, 0x42);
  EXPECT_EQ(receivers(m, 0x42), (Set{0, 1, 2, 3}));
  send_xapic(m, 1, 9, 0x43);
  EXPECT_EQ(receivers(m, 0x43), (Set{}));
  m.enable(true);
  send_x2apic(m, 0, 3, 0x44);
  EXPECT_EQ(receivers(m, 0x44), (Set{3}));
  send_x2apic(m, 0, 0xFF, 0x45);  // an id that nobody has
  EXPECT_EQ(receivers(m, 0x45), (Set{}));
  send_x2apic(m, 0, 0xFFFFFFFF, 0x46);
  EXPECT_EQ(receivers(m, 0x46), (Set{0, 1, 2, 3}));
}

TEST(Ipi, shorthands) {
  for (const bool x2apic : {false, true}) {
    FakeMachine m(3);
    m.enable(x2apic);
    FakeMachine::write(m.apic(1), 0x30, kShortSelf | 0x50);
    EXPECT_EQ(receivers(m, 0x50), (Set{1}));
    FakeMachine::write(m.apic(1), 0x30, kShortAll | 0x51);
    EXPECT_EQ(receivers(m, 0x51), (Set{0, 1, 2}));
    FakeMachine::write(m.apic(1), 0x30, kShortOthers | 0x52);
    EXPECT_EQ(receivers(m, 0x52), (Set{0, 2}));
  }
}

TEST(Ipi, logical_destinations_in_the_flat_model) {
  FakeMachine m(4);
  m.enable(false);
  for (std::uint32_t i = 0; i < 4; ++i) m.apic(i).write_mmio(0xD0, 4, 1u << (24 + i));
  send_xapic(m, 0, 0b0101, kLogical | 0x41);
  EXPECT_EQ(receivers(m, 0x41), (Set{0, 2}));
  send_xapic(m, 0, 0b10000, kLogical | 0x42);
  EXPECT_EQ(receivers(m, 0x42), (Set{}));
  send_xapic(m, 0, 0xFF, kLogical | 0x43);
  EXPECT_EQ(receivers(m, 0x43), (Set{0, 1, 2, 3}));
}

TEST(Ipi, logical_destinations_in_the_cluster_model) {
  FakeMachine m(4);
  m.enable(false);
  const std::uint32_t ids[] = {0x11, 0x12, 0x21, 0x22};
  for (std::uint32_t i = 0; i < 4; ++i) {
    m.apic(i).write_mmio(0xE0, 4, 0x0FFFFFFF);
    m.apic(i).write_mmio(0xD0, 4, ids[i] << 24);
  }
  EXPECT_EQ(m.apic(0).read_mmio(0xE0, 4), 0x0FFFFFFFu);
  send_xapic(m, 0, 0x13, kLogical | 0x41);
  EXPECT_EQ(receivers(m, 0x41), (Set{0, 1}));
  send_xapic(m, 0, 0x22, kLogical | 0x42);
  EXPECT_EQ(receivers(m, 0x42), (Set{3}));
  send_xapic(m, 0, 0xF1, kLogical | 0x43);  // every cluster
  EXPECT_EQ(receivers(m, 0x43), (Set{0, 2}));
}

TEST(Ipi, logical_destinations_of_x2apic_are_clusters_of_sixteen) {
  FakeMachine m(20);
  m.enable(true);
  send_x2apic(m, 0, 0x00000009, kLogical | 0x41);
  EXPECT_EQ(receivers(m, 0x41), (Set{0, 3}));
  send_x2apic(m, 0, 0x0001000A, kLogical | 0x42);
  EXPECT_EQ(receivers(m, 0x42), (Set{17, 19}));
  send_x2apic(m, 0, 0x0002FFFF, kLogical | 0x43);
  EXPECT_EQ(receivers(m, 0x43), (Set{}));
}

TEST(Ipi, lowest_priority_goes_to_one_who_has_the_lowest) {
  FakeMachine m(3);
  m.enable(false);
  for (std::uint32_t i = 0; i < 3; ++i) m.apic(i).write_mmio(0xD0, 4, 1u << (24 + i));
  m.apic(0).write_mmio(0x80, 4, 0x50);
  m.apic(1).write_mmio(0x80, 4, 0x20);
  m.raise(2, 0x60);
  ASSERT_EQ(m.take(2), 0x60);  // in service: priority 0x60
  for (int i = 0; i < 5; ++i) {
    send_xapic(m, 0, 0b111, kLogical | 1u << 8 | 0x90);
    EXPECT_EQ(receivers(m, 0x90), (Set{1}));
  }
  m.apic(1).write_mmio(0xF0, 4, 0xFF);  // off: not a candidate
  send_xapic(m, 0, 0b111, kLogical | 1u << 8 | 0x91);
  EXPECT_EQ(receivers(m, 0x91), (Set{0}));
}

TEST(Ipi, lowest_priority_among_equals_goes_round) {
  FakeMachine m(4);
  m.enable(true);
  std::set<std::uint32_t> who;
  for (int i = 0; i < 64; ++i) {
    send_x2apic(m, 0, 0xF, kLogical | 1u << 8 | 0x90);
    const auto chosen = receivers(m, 0x90);
    EXPECT_EQ(chosen.size(), 1u);
    who.insert(chosen.begin(), chosen.end());
  }
  EXPECT_EQ(who, (Set{0, 1, 2, 3}));
}

TEST(Ipi, nmi_reaches_an_apic_that_software_switched_off) {
  FakeMachine m(3);
  m.enable(true);
  FakeMachine::write(m.apic(2), 0x0F, 0xFF);
  send_x2apic(m, 0, 2, kNmi);
  EXPECT_EQ(posted(m, kAttentionNmi), (Set{2}));
  FakeMachine::write(m.apic(0), 0x30, kShortOthers | kNmi);
  EXPECT_EQ(posted(m, kAttentionNmi), (Set{1, 2}));
}

TEST(Ipi, init_and_startup_are_latched_for_the_receiver) {
  for (const bool x2apic : {false, true}) {
    FakeMachine m(2);
    m.enable(x2apic);
    const auto send = [&](std::uint64_t low) {
      x2apic ? send_x2apic(m, 0, 1, low) : send_xapic(m, 0, 1, low);
    };
    send(0xC000 | kInit);
    EXPECT_EQ(m.sink.take(1), kAttentionInit);
    send(0x8000 | kInit);  // the de-assertion does nothing
    EXPECT_EQ(m.sink.take(1), 0u);
    send(kStartup | 0x9A);
    send(kStartup | 0x9B);
    EXPECT_EQ(m.sink.take(1), kAttentionInit);
    const StartupEvents events = m.apic(1).take_startup();
    EXPECT_TRUE(events.init);
    EXPECT_TRUE(events.sipi);
    EXPECT_EQ(events.sipi_vector, 0x9B);
    EXPECT_FALSE(m.apic(1).take_startup().init);
  }
}

TEST(Ipi, init_makes_an_earlier_startup_void) {
  FakeMachine m(2);
  m.enable(true);
  send_x2apic(m, 0, 1, kStartup | 0x10);
  send_x2apic(m, 0, 1, kInit);
  const StartupEvents events = m.apic(1).take_startup();
  EXPECT_TRUE(events.init);
  EXPECT_FALSE(events.sipi);
}

TEST(Ipi, the_init_reset_keeps_the_mode_and_forgets_the_rest) {
  FakeMachine m(2);
  m.enable(true);
  m.raise(1, 0x50);
  FakeMachine::write(m.apic(1), 0x08, 0x10);
  m.apic(1).init_reset();
  EXPECT_TRUE(m.apic(1).x2apic());
  EXPECT_EQ(m.take(1), -1);
  EXPECT_EQ(FakeMachine::read(m.apic(1), 0x0F), 0xFFu);
  EXPECT_EQ(FakeMachine::read(m.apic(1), 0x08), 0u);
  EXPECT_EQ(FakeMachine::read(m.apic(1), 0x0D), 2u);
}

TEST(Ipi, modes_that_do_not_exist_here_are_ignored) {
  FakeMachine m(2);
  m.enable(true);
  for (const std::uint64_t mode : {2u, 3u, 7u}) send_x2apic(m, 0, 1, mode << 8 | 0x40);
  EXPECT_EQ(m.take(1), -1);
  EXPECT_EQ(m.sink.take(1), 0u);
}

TEST(Ipi, a_disabled_apic_gets_nothing) {
  FakeMachine m(2);
  m.enable(false);
  ASSERT_TRUE(m.apic(1).write_base(0xFEE00000));
  send_xapic(m, 0, 0xFF, 0x41);
  send_xapic(m, 0, 1, kNmi);
  send_xapic(m, 0, 1, kInit);
  EXPECT_EQ(m.sink.take(1), 0u);
}

// Requests from other threads are neither lost nor made up.
TEST(Ipi, requests_from_several_threads_all_arrive) {
  constexpr int kRounds = 2'000;  // each is a few switches between threads
  FakeMachine m(1);
  m.enable(true);
  struct Sink final : AttentionSink {
    void post(std::uint32_t, std::uint32_t) override { posts.fetch_add(1); }
    std::atomic<int> posts{0};
  } sink;
  LocalApic apic({.index = 0, .sink = sink, .bus = m.bus, .clock = m.clock, .timers = m.timers});
  apic.write_mmio(0xF0, 4, 0x1FF);
  std::array<std::atomic<int>, 2> sent{}, taken{};
  std::atomic<bool> over{false};
  const auto sender = [&](std::uint8_t which) {
    for (int i = 0; i < kRounds; ++i) {
      // One at a time of each vector, so that all can be counted.
      while (sent[which].load() != taken[which].load()) {
        if (over.load()) return;
        std::this_thread::yield();
      }
      sent[which].fetch_add(1);
      apic.accept({.vector = static_cast<std::uint8_t>(0x40 + which * 0x40), .level = which != 0});
    }
  };
  std::jthread first([&] { sender(0); }), second([&] { sender(1); });
  int count = 0;
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (count < 2 * kRounds && std::chrono::steady_clock::now() < give_up) {
    const auto vector = apic.highest_deliverable();
    if (!vector) {
      std::this_thread::yield();
      continue;
    }
    apic.acknowledge(*vector);
    apic.write_mmio(0xB0, 4, 0);
    taken[*vector == 0x40 ? 0 : 1].fetch_add(1);
    ++count;
  }
  EXPECT_EQ(count, 2 * kRounds);
  EXPECT_GE(sink.posts.load(), 2 * kRounds);
  over.store(true);
}

}  // namespace
}  // namespace sm::soft
