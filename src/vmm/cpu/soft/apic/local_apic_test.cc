// Registers, priorities and modes of one local APIC.
#include "vmm/cpu/soft/apic/local_apic.h"

#include <gtest/gtest.h>

#include "vmm/cpu/soft/apic/apic_fakes.h"
#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {
namespace {

constexpr std::uint64_t kDisabled = 0xFEE00000, kXapic = 0xFEE00800, kX2apic = 0xFEE00C00;

class BothModes : public ::testing::TestWithParam<bool> {
 protected:
  BothModes() { m.enable(GetParam()); }
  FakeMachine m;
};
INSTANTIATE_TEST_SUITE_P(LocalApic, BothModes, ::testing::Bool(), [](const auto& mode) {
  return std::string(mode.param ? "x2apic" : "xapic");
});

// ---- Priority and nesting

TEST_P(BothModes, the_highest_vector_comes_first_and_holds_back_its_class_and_lower) {
  m.raise(0, 0x31);
  m.raise(0, 0x52);
  m.raise(0, 0x51);
  EXPECT_EQ(m.take(), 0x52);
  EXPECT_EQ(m.take(), -1);  // 0x51 is of the same class
  m.raise(0, 0x60);
  EXPECT_EQ(m.take(), 0x60);  // nested
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x0A), 0x60u);
  m.eoi();
  EXPECT_EQ(m.take(), -1);
  m.eoi();
  EXPECT_EQ(m.take(), 0x51);
  m.eoi();
  EXPECT_EQ(m.take(), 0x31);
  m.eoi();
  EXPECT_EQ(m.take(), -1);
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x0A), 0u);
}

TEST_P(BothModes, end_of_interrupt_announces_what_it_lets_through_and_nothing_else) {
  m.raise(0, 0x50);
  m.raise(0, 0x40);
  EXPECT_EQ(m.take(), 0x50);
  m.sink.take(0);
  m.eoi();
  EXPECT_EQ(m.sink.take(0), kAttentionInterrupt);
  EXPECT_EQ(m.take(), 0x40);
  m.eoi();
  EXPECT_EQ(m.sink.take(0), 0u);
  m.eoi();  // without an interrupt in service: nothing
  EXPECT_EQ(m.take(), -1);
}

TEST_P(BothModes, one_vector_pends_once_while_it_is_requested_and_again_while_it_is_served) {
  m.raise(0, 0x41);
  m.raise(0, 0x41);
  EXPECT_EQ(m.take(), 0x41);
  m.raise(0, 0x41);
  EXPECT_EQ(m.take(), -1);
  m.eoi();
  EXPECT_EQ(m.take(), 0x41);
  m.eoi();
  EXPECT_EQ(m.take(), -1);
}

TEST_P(BothModes, task_priority_holds_back_its_class_and_below) {
  FakeMachine::write(m.apic(), 0x08, 0x50);
  m.raise(0, 0x5F);
  EXPECT_EQ(m.take(), -1);
  m.raise(0, 0x60);
  EXPECT_EQ(m.take(), 0x60);
  m.eoi();
  m.sink.take(0);
  m.apic().set_cr8(4);
  EXPECT_EQ(m.sink.take(0), kAttentionInterrupt);
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x08), 0x40u);
  EXPECT_EQ(m.apic().cr8(), 4u);
  EXPECT_EQ(m.take(), 0x5F);
}

TEST_P(BothModes, processor_priority_keeps_the_task_subclass_while_that_class_leads) {
  FakeMachine::write(m.apic(), 0x08, 0x47);
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x0A), 0x47u);
  m.raise(0, 0x83);
  EXPECT_EQ(m.take(), 0x83);
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x0A), 0x80u);
}

TEST_P(BothModes, vectors_are_seen_in_irr_and_isr) {
  m.raise(0, 0x91);
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x24), 1u << 17);
  EXPECT_EQ(m.take(), 0x91);
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x24), 0u);
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x14), 1u << 17);
}

TEST_P(BothModes, switched_off_by_software_it_takes_nothing_and_masks_its_entries) {
  FakeMachine::write(m.apic(), 0x37, 0x40);
  FakeMachine::write(m.apic(), 0x0F, 0xFF);
  m.raise(0, 0x80);
  EXPECT_EQ(m.take(), -1);
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x37), 0x10040u);
  FakeMachine::write(m.apic(), 0x37, 0x41);  // the mask cannot be lifted meanwhile
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x37), 0x10041u);
  FakeMachine::write(m.apic(), 0x0F, 0x1FF);
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x37), 0x10041u);
}

// ---- Errors

TEST_P(BothModes, illegal_vectors_are_errors_that_a_write_of_esr_shows) {
  m.raise(0, 0x0F);
  EXPECT_EQ(m.take(), -1);
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x28), 0u);
  FakeMachine::write(m.apic(), 0x28, 0);
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x28), 0x40u);
  FakeMachine::write(m.apic(), 0x30, 0x40005);  // to itself
  FakeMachine::write(m.apic(), 0x28, 0);
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x28), 0x20u);
  FakeMachine::write(m.apic(), 0x28, 0);
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x28), 0u);
}

TEST_P(BothModes, an_error_interrupts_when_its_entry_allows) {
  FakeMachine::write(m.apic(), 0x37, 0xFE);
  m.raise(0, 3);
  EXPECT_EQ(m.take(), 0xFE);
  FakeMachine::write(m.apic(), 0x37, 0x05);  // an illegal vector of its own ends there
  m.raise(0, 3);
  m.eoi();
  EXPECT_EQ(m.take(), -1);
}

TEST(LocalApic, undefined_registers_of_the_page_are_errors) {
  FakeMachine m;
  m.enable(false);
  EXPECT_EQ(m.apic().read_mmio(0x3F0, 4), 0u);
  m.apic().write_mmio(0x20, 4, 0x55);
  m.apic().write_mmio(0x28, 4, 0);  // not a register at all
  m.apic().write_mmio(0xFF0, 4, 1);
  m.apic().write_mmio(0x280, 4, 0);
  EXPECT_EQ(m.apic().read_mmio(0x280, 4), 0x80u);
  EXPECT_EQ(m.apic().read_mmio(0x20, 4), 0u);
}

TEST(LocalApic, narrow_and_unaligned_accesses_do_nothing) {
  FakeMachine m;
  m.enable(false);
  m.apic().write_mmio(0x80, 1, 0xF0);
  m.apic().write_mmio(0x82, 4, 0xF0);
  m.apic().write_mmio(0x80, 8, 0xF0);
  EXPECT_EQ(m.apic().cr8(), 0u);
  m.apic().write_mmio(0x80, 4, 0xF0);
  EXPECT_EQ(m.apic().read_mmio(0x80, 2), 0u);
  EXPECT_EQ(m.apic().read_mmio(0x80, 4), 0xF0u);
}

// ---- Identification

TEST(LocalApic, id_and_logical_id_have_each_mode_s_form) {
  FakeMachine m(21);
  m.enable(false);
  EXPECT_EQ(m.apic(20).read_mmio(0x20, 4), 20u << 24);
  EXPECT_EQ(m.apic(20).read_mmio(0x30, 4), 0x50014u);
  m.apic(20).write_mmio(0xD0, 4, 0xAB123456);
  EXPECT_EQ(m.apic(20).read_mmio(0xD0, 4), 0xAB000000u);
  m.enable(true);
  EXPECT_EQ(FakeMachine::read(m.apic(20), 0x02), 20u);
  EXPECT_EQ(FakeMachine::read(m.apic(20), 0x0D), 1u << 16 | 1u << 4);
}

TEST(LocalApic, only_the_boot_processor_has_the_boot_flag) {
  FakeMachine m(2);
  EXPECT_EQ(m.apic(0).base(), kXapic | 0x100);
  EXPECT_EQ(m.apic(1).base(), kXapic);
  EXPECT_TRUE(m.apic(1).write_base(kXapic | 0x100));
  EXPECT_EQ(m.apic(1).base(), kXapic);
}

// ---- Modes

TEST(LocalApic, modes_change_only_along_the_allowed_paths) {
  struct Step {
    std::uint64_t from, to;
    bool allowed;
  };
  const Step steps[] = {
      {kXapic, kXapic, true},      {kXapic, kX2apic, true},      {kXapic, kDisabled, true},
      {kX2apic, kX2apic, true},    {kX2apic, kXapic, false},     {kX2apic, kDisabled, true},
      {kDisabled, kXapic, true},   {kDisabled, kX2apic, false},  {kDisabled, kDisabled, true},
      {kXapic, 0xFEE00400, false}, {kX2apic, 0xFEE00400, false}, {kDisabled, 0xFEE00400, false},
  };
  for (const Step& step : steps) {
    FakeMachine m(2);
    LocalApic& apic = m.apic(1);
    ASSERT_TRUE(apic.restore_base(step.from));
    EXPECT_EQ(apic.write_base(step.to), step.allowed) << std::hex << step.from << " " << step.to;
    EXPECT_EQ(apic.base(), step.allowed ? step.to : step.from);
  }
}

TEST(LocalApic, reserved_bits_of_the_base_are_refused) {
  FakeMachine m(2);
  for (const std::uint64_t bit : {0x1ull, 0x80ull, 0x200ull, 1ull << 40, 1ull << 63}) {
    EXPECT_FALSE(m.apic(1).write_base(kXapic | bit)) << std::hex << bit;
    EXPECT_FALSE(m.apic(1).restore_base(kXapic | bit)) << std::hex << bit;
  }
  EXPECT_EQ(m.apic(1).base(), kXapic);
}

TEST(LocalApic, the_page_answers_at_its_base_in_xapic_mode_only) {
  FakeMachine m(2);
  LocalApic& apic = m.apic(1);
  EXPECT_TRUE(apic.claims(0xFEE00FFC));
  EXPECT_FALSE(apic.claims(0xFEE01000));
  EXPECT_TRUE(apic.write_base(0xFED00800));
  EXPECT_TRUE(apic.claims(0xFED00000));
  EXPECT_FALSE(apic.claims(0xFEE00000));
  EXPECT_TRUE(apic.write_base(0xFED00C00));
  EXPECT_FALSE(apic.claims(0xFED00000));
  EXPECT_TRUE(apic.write_base(0xFED00000));
  EXPECT_FALSE(apic.claims(0xFED00000));
}

TEST(LocalApic, entering_x2apic_mode_keeps_the_registers_and_switching_off_resets_them) {
  FakeMachine m;
  m.enable(false);
  m.apic().write_mmio(0x80, 4, 0x30);
  m.raise(0, 0x22);
  ASSERT_TRUE(m.apic().write_base(kX2apic));
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x08), 0x30u);
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x21), 1u << 2);
  ASSERT_TRUE(m.apic().write_base(kDisabled));
  EXPECT_FALSE(m.apic().enabled());
  EXPECT_EQ(m.take(), -1);
  ASSERT_TRUE(m.apic().write_base(kXapic));
  EXPECT_EQ(m.apic().read_mmio(0x80, 4), 0u);
  EXPECT_EQ(m.apic().read_mmio(0xF0, 4), 0xFFu);
  EXPECT_EQ(m.apic().read_mmio(0x210, 4), 0u);
  EXPECT_EQ(m.apic().read_mmio(0x320, 4), 0x10000u);
}

// ---- x2APIC accesses that raise #GP

TEST(X2apic, registers_are_out_of_reach_in_the_other_modes) {
  FakeMachine m;
  std::uint64_t value = 0;
  EXPECT_FALSE(m.apic().read_x2apic(0x802, value));
  EXPECT_FALSE(m.apic().write_x2apic(0x80B, 0));
}

TEST(X2apic, absent_registers_and_wrong_directions_are_refused) {
  FakeMachine m;
  m.enable(true);
  std::uint64_t value = 0;
  for (const std::uint32_t msr : {0x800u, 0x801u, 0x804u, 0x809u, 0x80Bu, 0x80Cu, 0x80Eu, 0x82Fu,
                                  0x831u, 0x83Au, 0x83Fu, 0x840u, 0x8FFu}) {
    EXPECT_FALSE(m.apic().read_x2apic(msr, value)) << std::hex << msr;
  }
  for (const std::uint32_t msr : {0x802u, 0x803u, 0x80Au, 0x80Du, 0x80Eu, 0x810u, 0x818u, 0x827u,
                                  0x831u, 0x839u, 0x840u, 0x8FFu}) {
    EXPECT_FALSE(m.apic().write_x2apic(msr, 0)) << std::hex << msr;
  }
}

TEST(X2apic, reserved_bits_are_refused) {
  FakeMachine m;
  m.enable(true);
  struct Case {
    std::uint32_t msr;
    std::uint64_t value;
  };
  const Case cases[] = {
      {0x808, 0x100},      {0x808, 1ull << 32}, {0x80B, 1},       {0x80F, 0x1000},  {0x828, 1},
      {0x830, 0x1000},     {0x830, 0x100000},   {0x832, 0x80000}, {0x835, 0x20000}, {0x837, 0x700},
      {0x838, 1ull << 32}, {0x83E, 4},          {0x83F, 0x100},
  };
  for (const Case& c : cases) {
    EXPECT_FALSE(m.apic().write_x2apic(c.msr, c.value)) << std::hex << c.msr << " " << c.value;
  }
}

TEST(X2apic, the_icr_is_one_register_of_64_bits) {
  FakeMachine m(2);
  m.enable(true);
  ASSERT_TRUE(m.apic().write_x2apic(0x830, 0x1'0000'0045));
  EXPECT_EQ(m.take(1), 0x45);
  std::uint64_t value = 0;
  ASSERT_TRUE(m.apic().read_x2apic(0x830, value));
  EXPECT_EQ(value, 0x1'0000'0045u);
}

TEST(X2apic, self_ipi) {
  FakeMachine m(2);
  m.enable(true);
  ASSERT_TRUE(m.apic(1).write_x2apic(0x83F, 0x77));
  EXPECT_EQ(m.sink.take(1), kAttentionInterrupt);
  EXPECT_EQ(m.take(0), -1);
  EXPECT_EQ(m.take(1), 0x77);
}

// ---- Paravirtual end of interrupt

TEST(PvEoi, a_guest_ends_an_interrupt_by_clearing_the_bit) {
  FakeMachine m;
  m.enable(true);
  std::uint32_t word = 0;
  m.apic().set_pv_eoi(&word);
  m.raise(0, 0x61);
  EXPECT_EQ(m.take(), 0x61);
  EXPECT_EQ(word, 1u);
  word = 0;
  m.raise(0, 0x51);
  EXPECT_EQ(m.take(), 0x51);
}

TEST(PvEoi, a_second_interrupt_takes_the_offer_back) {
  FakeMachine m;
  m.enable(true);
  std::uint32_t word = 0;
  m.apic().set_pv_eoi(&word);
  m.raise(0, 0x61);
  EXPECT_EQ(m.take(), 0x61);
  m.raise(0, 0x51);
  EXPECT_EQ(m.take(), -1);
  EXPECT_EQ(word, 0u);  // so the guest writes the register
  m.sink.take(0);
  m.eoi();
  EXPECT_EQ(m.sink.take(0), kAttentionInterrupt);
  EXPECT_EQ(m.take(), 0x51);
}

TEST(PvEoi, is_not_offered_while_others_wait_or_for_level_interrupts) {
  FakeMachine m;
  m.enable(true);
  std::uint32_t word = 0;
  m.apic().set_pv_eoi(&word);
  m.raise(0, 0x61);
  m.raise(0, 0x51);
  EXPECT_EQ(m.take(), 0x61);
  EXPECT_EQ(word, 0u);
  m.eoi();
  EXPECT_EQ(m.take(), 0x51);
  EXPECT_EQ(word, 1u);
  m.eoi();  // a write counts, and takes the offer back
  EXPECT_EQ(word, 0u);
  m.raise(0, 0x71, true);
  EXPECT_EQ(m.take(), 0x71);
  EXPECT_EQ(word, 0u);
}

TEST(PvEoi, the_registers_show_what_the_guest_ended) {
  FakeMachine m;
  m.enable(true);
  std::uint32_t word = 0;
  m.apic().set_pv_eoi(&word);
  m.raise(0, 0x61);
  EXPECT_EQ(m.take(), 0x61);
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x13), 1u << 1);
  m.eoi();
  m.raise(0, 0x61);
  EXPECT_EQ(m.take(), 0x61);
  word = 0;
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x13), 0u);
  EXPECT_EQ(FakeMachine::read(m.apic(), 0x0A), 0u);
}

}  // namespace
}  // namespace sm::soft
