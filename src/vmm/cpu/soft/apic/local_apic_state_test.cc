// The register page as a state holds it.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "vmm/cpu/soft/apic/apic_fakes.h"
#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {
namespace {

using Page = std::array<std::byte, kLapicPageSize>;

std::uint32_t word(const Page& page, std::size_t offset) {
  std::uint32_t value = 0;
  std::memcpy(&value, page.data() + offset, sizeof(value));
  return value;
}
void set_word(Page& page, std::size_t offset, std::uint32_t value) {
  std::memcpy(page.data() + offset, &value, sizeof(value));
}
Page save(LocalApic& apic) {
  Page page;
  page.fill(std::byte{0xEE});
  apic.save(page);
  return page;
}

void prepare(FakeMachine& m, LocalApic& apic) {
  const std::uint32_t index = apic.id();
  m.write(apic, 0x08, 0x20);
  m.write(apic, 0x35, 0x0700);
  m.write(apic, 0x37, 0xFE);
  m.write(apic, 0x3E, 0xB);
  m.write(apic, 0x32, 0x20040);
  m.write(apic, 0x38, 5'000'000);
  m.raise(index, 0x95);
  EXPECT_EQ(m.take(index), 0x95);
  m.raise(index, 0x83, true);
  m.raise(index, 0x31);
}

TEST(LocalApicState, round_trip_in_both_modes) {
  for (const bool x2apic : {false, true}) {
    FakeMachine from(3), to(3);
    from.enable(x2apic);
    prepare(from, from.apic(2));
    if (!x2apic) from.apic(2).write_mmio(0xD0, 4, 0x04000000);
    from.clock.now_ns += 1'000'000;
    const Page page = save(from.apic(2));

    LocalApic& apic = to.apic(2);
    ASSERT_TRUE(apic.restore_base(from.apic(2).base()));
    apic.load(page);
    EXPECT_EQ(save(apic), page);
    EXPECT_EQ(to.sink.take(2) & kAttentionInterrupt, 0u);  // 0x95 is in service, 0x83 below it
    EXPECT_EQ(apic.next_deadline(), to.clock.now_ns + 4'000'000);
    to.eoi(2);
    EXPECT_EQ(to.sink.take(2), kAttentionInterrupt);
    EXPECT_EQ(to.take(2), 0x83);
    to.eoi(2);
    EXPECT_EQ(to.take(2), 0x31);
  }
}

TEST(LocalApicState, the_layout_is_table_10_1) {
  FakeMachine m(3);
  m.enable(false);
  prepare(m, m.apic(2));
  const Page page = save(m.apic(2));
  EXPECT_EQ(word(page, 0x20), 2u << 24);
  EXPECT_EQ(word(page, 0x30), 0x50014u);
  EXPECT_EQ(word(page, 0x80), 0x20u);
  EXPECT_EQ(word(page, 0xA0), 0x90u);
  EXPECT_EQ(word(page, 0xE0), 0xFFFFFFFFu);
  EXPECT_EQ(word(page, 0xF0), 0x1FFu);
  EXPECT_EQ(word(page, 0x140), 1u << 0x15);  // ISR 0x80..0x9F
  EXPECT_EQ(word(page, 0x1C0), 1u << 3);     // TMR
  EXPECT_EQ(word(page, 0x240), 1u << 3);     // IRR 0x80..0x9F
  EXPECT_EQ(word(page, 0x210), 1u << 0x11);  // IRR 0x20..0x3F
  EXPECT_EQ(word(page, 0x320), 0x20040u);
  EXPECT_EQ(word(page, 0x380), 5'000'000u);
  EXPECT_EQ(word(page, 0x390), 5'000'000u);
  EXPECT_EQ(word(page, 0x24), 0u);
}

TEST(LocalApicState, ids_of_x2apic_mode) {
  FakeMachine m(20);
  m.enable(true);
  ASSERT_TRUE(m.apic(19).write_x2apic(0x830, 0x12345678'00000045));
  const Page page = save(m.apic(19));
  EXPECT_EQ(word(page, 0x20), 19u << 24);
  EXPECT_EQ(word(page, 0xD0), 1u << 16 | 1u << 3);
  EXPECT_EQ(word(page, 0x300), 0x45u);
  EXPECT_EQ(word(page, 0x310), 0x12345678u);
}

TEST(LocalApicState, a_deliverable_request_is_announced) {
  FakeMachine m;
  m.enable(true);
  m.raise(0, 0x50);
  const Page page = save(m.apic());
  m.sink.take(0);
  m.apic().load(page);
  EXPECT_EQ(m.sink.take(0), kAttentionInterrupt);
}

TEST(LocalApicState, an_expired_one_shot_stays_expired_and_a_due_period_is_announced) {
  FakeMachine m;
  m.enable(true);
  m.write(m.apic(), 0x38, 1000);
  m.clock.now_ns += 1'000'000;
  m.apic().poll_timer();
  Page page = save(m.apic());
  m.apic().load(page);
  EXPECT_EQ(m.apic().next_deadline(), std::nullopt);
  set_word(page, 0x320, 0x20040);
  m.sink.take(0);
  m.apic().load(page);
  EXPECT_EQ(m.sink.take(0), kAttentionTimer);
}

// A one-shot count that has run out since its vCPU last looked at it.
void run_out(FakeMachine& m) {
  m.enable(true);
  m.write(m.apic(), 0x32, 0x40);
  m.write(m.apic(), 0x38, 1000);
  m.clock.now_ns += 1'000'000;
}

TEST(LocalApicState, an_expiry_that_nobody_has_looked_at_is_saved_as_its_interrupt) {
  FakeMachine m;
  run_out(m);
  const Page page = save(m.apic());
  m.apic().load(page);
  EXPECT_EQ(m.take(0), 0x40);
}

TEST(LocalApicState, another_divider_does_not_lose_an_expiry) {
  FakeMachine m;
  run_out(m);
  m.write(m.apic(), 0x3E, 0x3);
  m.clock.now_ns += 1000;
  m.apic().poll_timer();
  EXPECT_EQ(m.take(0), 0x40);
}

TEST(LocalApicState, deadline_mode_is_loaded_before_its_deadline) {
  FakeMachine m;
  m.enable(true);
  m.write(m.apic(), 0x32, 0x40040);
  const Page page = save(m.apic());
  FakeMachine other;
  ASSERT_TRUE(other.apic().restore_base(m.apic().base()));
  other.apic().load(page);
  other.apic().write_tsc_deadline(other.clock.tsc() + 2000);
  EXPECT_EQ(other.timers.deadlines[0], other.clock.now_ns + 1000);
}

TEST(LocalApicState, a_guest_s_end_of_interrupt_by_memory_is_in_the_page) {
  FakeMachine m;
  m.enable(true);
  std::uint32_t eoi_word = 0;
  m.apic().set_pv_eoi(&eoi_word);
  m.raise(0, 0x61);
  EXPECT_EQ(m.take(), 0x61);
  eoi_word = 0;
  EXPECT_EQ(word(save(m.apic()), 0x130), 0u);
  m.raise(0, 0x61);
  EXPECT_EQ(m.take(), 0x61);
  EXPECT_EQ(word(save(m.apic()), 0x130), 2u);
  EXPECT_EQ(eoi_word, 0u);
}

// Whatever a page holds, the APIC works afterwards, and what it saves is stable.
TEST(LocalApicState, hostile_pages_do_no_harm) {
  std::mt19937 random(20240607);
  for (int round = 0; round < 2000; ++round) {
    FakeMachine m(2);
    Page page;
    for (auto& byte : page) byte = static_cast<std::byte>(random());
    ASSERT_TRUE(m.apic(1).restore_base(random() % 2 == 0 ? 0xFEE00C00 : 0xFEE00800));
    m.apic(1).load(page);
    for (int i = 0; i < 300; ++i) {
      const int vector = m.take(1);
      if (vector < 0) break;
      EXPECT_GE(vector, 16);
      m.eoi(1);
    }
    m.clock.now_ns += 1'000'000'000;
    m.apic(1).poll_timer();
    const Page saved = save(m.apic(1));
    EXPECT_EQ(word(saved, 0x200) & 0xFFFF, 0u);
    EXPECT_EQ(word(saved, 0x30), 0x50014u);
    m.apic(1).load(saved);
    EXPECT_EQ(save(m.apic(1)), saved);
  }
}

}  // namespace
}  // namespace sm::soft
