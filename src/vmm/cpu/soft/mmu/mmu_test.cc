// Page walks, translation banks, device accesses, segments.
#include "vmm/cpu/soft/mmu/mmu.h"

#include "vmm/cpu/soft/mmu/mmu_fixture.h"

namespace sm::soft {
namespace {

TEST_F(MmuTest, absent_pages_fault_with_the_kind_of_access) {
  map(kAddress, 0);
  EXPECT_EQ(read(kAddress + 5), 0u);
  EXPECT_EQ(cpu().fault.address, kAddress + 5);
  EXPECT_EQ(write(kAddress), page_fault::kWrite);
  EXPECT_EQ(execute(kAddress), page_fault::kFetch);
  set_cpl(3);
  EXPECT_EQ(read(kAddress), page_fault::kUser);
  EXPECT_EQ(read(kAddress, Privilege::kSystem), 0u);
}

struct RightsCase {
  std::uint64_t entry;
  std::uint64_t cr4;
  bool write_protect;
  std::uint8_t cpl;
  std::optional<std::uint32_t> read, write, execute;
};

TEST_F(MmuTest, rights_follow_the_page_and_the_control_registers) {
  constexpr std::uint32_t kP = page_fault::kPresent, kW = kP | page_fault::kWrite,
                          kU = kP | page_fault::kUser, kI = kP | page_fault::kFetch;
  const RightsCase cases[] = {
      {kPresent, 0, true, 0, kFine, kW, kFine},
      {kPresent, 0, false, 0, kFine, kFine, kFine},
      {kPresent | kWritable, 0, true, 0, kFine, kFine, kFine},
      {kPresent | kWritable | kNoExecute, 0, true, 0, kFine, kFine, kI},
      {kPresent | kWritable, 0, true, 3, kU, kU | kW, kU | kI},
      {kPresent | kUser, 0, true, 3, kFine, kU | kW, kFine},
      {kPresent | kUser, 0, false, 3, kFine, kU | kW, kFine},
      {kPresent | kUser | kWritable, 0, true, 3, kFine, kFine, kFine},
      {kPresent | kUser | kWritable, kCr4Smep, true, 0, kFine, kFine, kI},
      {kPresent | kUser | kWritable, kCr4Smep, true, 3, kFine, kFine, kFine},
      {kPresent | kUser | kWritable, kCr4Smap, true, 0, kP, kW, kFine},
      {kPresent | kUser | kWritable, kCr4Smap, true, 3, kFine, kFine, kFine},
  };
  for (const RightsCase& c : cases) {
    SCOPED_TRACE(testing::Message() << std::hex << c.entry << " cr4 " << c.cr4 << " wp "
                                    << c.write_protect << " cpl " << int{c.cpl});
    enter_long_mode();
    map(kAddress, kPage | c.entry);
    cpu().cr4 |= c.cr4;
    if (!c.write_protect) cpu().cr0 &= ~kCr0Wp;
    mmu().paging_changed();
    set_cpl(c.cpl);
    // Twice: by a walk, and by what the walk has left in the TLB.
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(read(kAddress), c.read);
      EXPECT_EQ(write(kAddress), c.write);
      EXPECT_EQ(execute(kAddress), c.execute);
    }
    set_cpl(0);
  }
}

TEST_F(MmuTest, rights_of_upper_levels_count) {
  const std::uint64_t leaf = map(kAddress, kPage | kPresent | kWritable | kUser);
  ASSERT_EQ(write(kAddress), kFine);
  word(kRoot + ((kAddress >> 39) & 511) * 8) &= ~kWritable;
  mmu().flush_all();
  EXPECT_EQ(write(kAddress), page_fault::kPresent | page_fault::kWrite);
  EXPECT_NE(word(leaf) & kAccessed, 0u);
}

TEST_F(MmuTest, smap_ends_while_ac_is_set_but_not_for_implicit_accesses) {
  map(kAddress, kPage | kPresent | kWritable | kUser);
  change_cr4(kCr4Smap);
  for (int i = 0; i < 2; ++i) {
    set_ac(true);
    EXPECT_EQ(read(kAddress), kFine);
    EXPECT_EQ(write(kAddress), kFine);
    EXPECT_EQ(read(kAddress, Privilege::kSystem), page_fault::kPresent);
    set_ac(false);
    EXPECT_EQ(read(kAddress), page_fault::kPresent);
    EXPECT_EQ(write(kAddress), page_fault::kPresent | page_fault::kWrite);
  }
}

TEST_F(MmuTest, runs_reach_what_smap_keeps_out_of_the_bank_and_nothing_else) {
  map(kAddress, kPage | kPresent | kWritable | kUser);
  change_cr4(kCr4Smap);
  EXPECT_EQ(host_for_run(cpu(), kAddress, 64, true), nullptr);
  set_ac(true);
  EXPECT_EQ(probe(cpu().write_tlb, kAddress, 64), nullptr);
  EXPECT_EQ(host_for_run(cpu(), kAddress + 8, 64, false), machine_.memory().host(kPage + 8));
  EXPECT_EQ(host_for_run(cpu(), kAddress + 8, 64, true), machine_.memory().host(kPage + 8));
  EXPECT_EQ(host_for_run(cpu(), kAddress + 4090, 8, true), nullptr);
  map(kAddress, kPage | kPresent | kUser);
  mmu().flush_all();
  EXPECT_NE(host_for_run(cpu(), kAddress, 64, false), nullptr);
  EXPECT_EQ(host_for_run(cpu(), kAddress, 64, true), nullptr);
}

// A supervisor with CR0.WP clear writes to a read-only user page; the user still may not.
TEST_F(MmuTest, supervisor_write_without_wp_gives_the_user_no_right) {
  map(kAddress, kPage | kPresent | kUser);
  cpu().cr0 &= ~kCr0Wp;
  change_cr4(kCr4Smap);
  set_ac(true);
  EXPECT_EQ(write(kAddress), kFine);
  set_ac(false);
  set_cpl(3);
  EXPECT_EQ(read(kAddress), kFine);
  EXPECT_EQ(write(kAddress), page_fault::kPresent | page_fault::kWrite | page_fault::kUser);
}

TEST_F(MmuTest, reserved_bits_are_told) {
  constexpr std::uint32_t kError = page_fault::kPresent | page_fault::kReserved;
  map(kAddress, kPage | kPresent | 1ull << 45);
  EXPECT_EQ(read(kAddress), kError);
  map(kAddress, 0x40'2000 | kPresent | kLarge, 2);  // bits 13..20 of a 2 MiB page
  EXPECT_EQ(read(kAddress), kError);
  cpu().efer &= ~kNxe;
  mmu().paging_changed();
  map(kAddress + (2ull << 20), kPage | kPresent | kNoExecute);
  EXPECT_EQ(read(kAddress + (2ull << 20)), kError);
  // Tables where there is no RAM read as ones.
  cpu().cr3 = 0x7000'0000;
  cr3_written(cpu(), false);
  EXPECT_EQ(read(kAddress), kError);
}

TEST_F(MmuTest, accessed_and_dirty_bits_are_set_when_they_are_due) {
  const std::uint64_t leaf = map(kAddress, kPage | kPresent | kWritable);
  const std::uint64_t root = kRoot + ((kAddress >> 39) & 511) * 8;
  EXPECT_EQ(word(root) & kAccessed, 0u);
  EXPECT_EQ(read(kAddress), kFine);
  EXPECT_EQ(word(leaf) & (kAccessed | kDirty), kAccessed);
  EXPECT_NE(word(root) & kAccessed, 0u);
  EXPECT_EQ(write(kAddress), kFine);
  EXPECT_EQ(word(leaf) & (kAccessed | kDirty), kAccessed | kDirty);
}

TEST_F(MmuTest, large_pages_translate_and_go_as_a_whole) {
  word(kPage + 0x1008) = 0x1111;
  map(kAddress, (kPage & ~0x1F'FFFFull) | kPresent | kWritable | kLarge | kGlobal, 2);
  const std::uint64_t base = kAddress & ~0x1F'FFFFull;
  EXPECT_EQ(value_at(base + 0x1008), 0x1111u);
  EXPECT_EQ(value_at(base + 0x2000), 0u);
  const std::uint64_t moved = 0x20'0000;
  word(moved + 0x1008) = 0x2222;
  map(kAddress, moved | kPresent | kWritable | kLarge | kGlobal, 2);
  EXPECT_EQ(value_at(base + 0x1008), 0x1111u);  // cached
  invalidate_page(cpu(), base + 0x1F'0000);     // another slice of the same page
  EXPECT_EQ(value_at(base + 0x1008), 0x2222u);
}

TEST_F(MmuTest, giant_page) {
  word(0x1008) = 0x3333;
  map(0x40'0000'0000, 0 | kPresent | kLarge, 3);
  EXPECT_EQ(value_at(0x40'0000'1008), 0x3333u);
}

TEST_F(MmuTest, cr3_write_keeps_global_pages_only) {
  word(kPage) = 1;
  word(kOther) = 2;
  map(kAddress, kPage | kPresent | kGlobal);
  map(kAddress + 4096, kPage | kPresent);
  EXPECT_EQ(value_at(kAddress), 1u);
  EXPECT_EQ(value_at(kAddress + 4096), 1u);
  map(kAddress, kOther | kPresent | kGlobal);
  map(kAddress + 4096, kOther | kPresent);
  cr3_written(cpu(), false);
  EXPECT_EQ(value_at(kAddress), 1u);
  EXPECT_EQ(value_at(kAddress + 4096), 2u);
  mmu().paging_changed();
  EXPECT_EQ(value_at(kAddress), 2u);
}

TEST_F(MmuTest, address_spaces_keep_their_user_translations_by_pcid) {
  constexpr std::uint64_t kRoot2 = 0x20'0000;
  change_cr4(kCr4Pcide);
  word(kPage) = 1;
  word(kOther) = 2;
  map(kAddress, kPage | kPresent | kUser);
  map(kAddress, kOther | kPresent | kUser, 1, kRoot2);
  const auto go_to = [&](std::uint64_t root, std::uint64_t pcid, bool no_flush) {
    cpu().cr3 = root | pcid;
    cr3_written(cpu(), no_flush);
  };
  set_cpl(3);
  go_to(kRoot, 1, false);
  EXPECT_EQ(value_at(kAddress), 1u);
  go_to(kRoot2, 2, false);
  EXPECT_EQ(value_at(kAddress), 2u);
  // The tables change; PCID 1 is kept, and what it had still holds.
  map(kAddress, kOther | kPresent | kUser);
  go_to(kRoot, 1, true);
  EXPECT_EQ(value_at(kAddress), 1u);
  invalidate_pcid(cpu(), InvpcidType::kAddress, 2, kAddress);
  EXPECT_EQ(value_at(kAddress), 1u);
  invalidate_pcid(cpu(), InvpcidType::kAddress, 1, kAddress);
  EXPECT_EQ(value_at(kAddress), 2u);
  map(kAddress, kPage | kPresent | kUser);
  go_to(kRoot, 1, false);
  EXPECT_EQ(value_at(kAddress), 1u);
  // A PCID that shares the bank of another finds none of its translations.
  map(kAddress, kOther | kPresent | kUser);
  go_to(kRoot, 9, true);
  EXPECT_EQ(value_at(kAddress), 2u);
}

TEST_F(MmuTest, supervisor_translations_of_user_pages_go_with_the_address_space) {
  constexpr std::uint64_t kRoot2 = 0x20'0000;
  change_cr4(kCr4Pcide);
  word(kPage) = 1;
  word(kOther) = 2;
  map(kAddress, kPage | kPresent | kUser | kGlobal);
  map(kAddress, kOther | kPresent | kUser, 1, kRoot2);
  EXPECT_EQ(value_at(kAddress), 1u);
  cpu().cr3 = kRoot2 | 2;
  cr3_written(cpu(), true);
  EXPECT_EQ(value_at(kAddress), 2u);
}

TEST_F(MmuTest, accesses_over_a_page_border_check_both_pages_first) {
  map(kAddress, kPage | kPresent | kWritable);
  map(kAddress + 4096, 0);
  word(kPage + 4088) = 0x55;
  const std::uint64_t value = ~0ull;
  EXPECT_FALSE(store_linear(cpu(), kAddress + 4092, &value, 8));
  EXPECT_EQ(cpu().fault.address, kAddress + 4096);
  EXPECT_EQ(word(kPage + 4088), 0x55u);
  map(kAddress + 4096, kOther | kPresent | kWritable);
  EXPECT_TRUE(store_linear(cpu(), kAddress + 4092, &value, 8));
  EXPECT_EQ(word(kPage + 4088), 0xFFFF'FFFF'0000'0055u);
  EXPECT_EQ(word(kOther), 0xFFFF'FFFFu);
  EXPECT_EQ(value_at(kAddress + 4092), ~0ull);
}

TEST_F(MmuTest, non_canonical_system_accesses_are_general_protection) {
  std::uint32_t value = 0;
  EXPECT_FALSE(load_linear(cpu(), 0x8000'0000'0000, &value, 4, Privilege::kSystem));
  EXPECT_EQ(cpu().fault.vector, vector::kProtection);
}

TEST_F(MmuTest, error_pointers_hit_nothing) {
  // The last page of the address space, and 0, in a TLB that has never been filled.
  EXPECT_EQ(read(~0ull - 0xFFF), 0u);
  EXPECT_EQ(read(0), 0u);
}

TEST_F(MmuTest, devices_get_one_access_at_a_time_and_answers_are_played_back) {
  map(kAddress, 0xD000'0000 | kPresent | kWritable);
  std::array<std::uint64_t, 2> value{};
  EXPECT_FALSE(load_linear(cpu(), kAddress + 8, value.data(), 16));
  ASSERT_TRUE(cpu().io.waiting());
  EXPECT_EQ(cpu().io.current().address, 0xD000'0008u);
  EXPECT_EQ(cpu().io.current().size, 8);
  cpu().io.current().data.fill(0x11);
  cpu().io.complete();
  cpu().io.rewind();
  EXPECT_FALSE(load_linear(cpu(), kAddress + 8, value.data(), 16));
  EXPECT_EQ(cpu().io.current().address, 0xD000'0010u);
  cpu().io.current().data.fill(0x22);
  cpu().io.complete();
  cpu().io.rewind();
  EXPECT_TRUE(load_linear(cpu(), kAddress + 8, value.data(), 16));
  EXPECT_EQ(value[0], 0x1111'1111'1111'1111u);
  EXPECT_EQ(value[1], 0x2222'2222'2222'2222u);
}

TEST_F(MmuTest, store_to_ram_and_device_waits_before_it_writes) {
  map(kAddress, kPage | kPresent | kWritable);
  map(kAddress + 4096, 0xD000'0000 | kPresent | kWritable);
  const std::uint64_t value = 0x8877'6655'4433'2211;
  EXPECT_FALSE(store_linear(cpu(), kAddress + 4094, &value, 8));
  EXPECT_EQ(word(kPage + 4088), 0u);
  EXPECT_EQ(cpu().io.current().size, 4);
  EXPECT_EQ(cpu().io.current().data[0], 0x33);
  cpu().io.complete();
  cpu().io.rewind();
  EXPECT_FALSE(store_linear(cpu(), kAddress + 4094, &value, 8));
  EXPECT_EQ(cpu().io.current().address, 0xD000'0004u);
  EXPECT_EQ(cpu().io.current().size, 2);
  cpu().io.complete();
  cpu().io.rewind();
  EXPECT_TRUE(store_linear(cpu(), kAddress + 4094, &value, 8));
  EXPECT_EQ(word(kPage + 4088), 0x2211'0000'0000'0000u);
}

TEST_F(MmuTest, atomics_need_one_cache_line_of_ram) {
  map(kAddress, kPage | kPresent | kWritable);
  EXPECT_EQ(host_for_atomic(cpu(), kAddress + 8, 8), machine_.memory().host(kPage + 8));
  cpu().fault = {};
  EXPECT_EQ(host_for_atomic(cpu(), kAddress + 60, 8), nullptr);
  EXPECT_EQ(cpu().fault.vector, 0);
  map(kAddress + 4096, kPage | kPresent);
  EXPECT_EQ(host_for_atomic(cpu(), kAddress + 4096, 8), nullptr);
  EXPECT_EQ(cpu().fault.vector, vector::kPage);
}

// ---- 32-bit and PAE paging --------------------------------------------------------------------

TEST_F(MmuTest, thirty_two_bit_paging) {
  cpu().efer = 0;
  cpu().cr4 = kCr4Pse;
  cpu().mode = code_mode_of(cpu());
  mmu().paging_changed();
  constexpr std::uint32_t kLinear = 0xC040'3000;
  half(kRoot + (kLinear >> 22) * 4) = static_cast<std::uint32_t>(0x20'0000 | kPresent | kWritable);
  half(0x20'0000 + ((kLinear >> 12) & 1023) * 4) =
      static_cast<std::uint32_t>(kPage | kPresent | kWritable);
  EXPECT_EQ(write(kLinear), kFine);
  EXPECT_EQ(word(kPage), 0xABCDu);
  EXPECT_EQ(half(0x20'0000 + ((kLinear >> 12) & 1023) * 4) & 0x60, 0x60u);
  // 4 MiB page
  half(kRoot + 4) = static_cast<std::uint32_t>(0x40'0000 | kPresent | kLarge);
  EXPECT_EQ(value_at(0x40'0000), 0xABCDu);
  half(kRoot + 8) = static_cast<std::uint32_t>(0x60'0000 | kPresent | kLarge);
  EXPECT_EQ(read(0x80'0000), page_fault::kPresent | page_fault::kReserved);  // bit 21
}

TEST_F(MmuTest, pae_paging) {
  cpu().efer = kNxe;
  cpu().cr4 = kCr4Pae;
  cpu().cr3 = kRoot + 0x20;
  cpu().mode = code_mode_of(cpu());
  mmu().paging_changed();
  constexpr std::uint32_t kLinear = 0xC040'3000;
  word(kRoot + 0x20 + 3 * 8) = 0x20'0000 | kPresent;
  word(0x20'0000 + 2 * 8) = 0x20'1000 | kPresent | kWritable;
  word(0x20'1000 + 3 * 8) = kPage | kPresent | kWritable | kNoExecute;
  EXPECT_EQ(write(kLinear), kFine);
  EXPECT_EQ(word(kPage), 0xABCDu);
  EXPECT_EQ(execute(kLinear), page_fault::kPresent | page_fault::kFetch);
  EXPECT_TRUE(pae_pointers_valid(cpu(), cpu().cr3));
  word(kRoot + 0x20) = kWritable;  // not present: anything may be in it
  EXPECT_TRUE(pae_pointers_valid(cpu(), cpu().cr3));
  word(kRoot + 0x20 + 3 * 8) |= kWritable;  // no right there but reserved
  EXPECT_FALSE(pae_pointers_valid(cpu(), cpu().cr3));
  mmu().flush_all();
  EXPECT_EQ(read(kLinear), page_fault::kPresent | page_fault::kReserved);
}

// ---- Segments ---------------------------------------------------------------------------------

TEST_F(MmuTest, long_mode_addresses_have_a_base_in_fs_and_gs_and_must_be_canonical) {
  cpu().segment[static_cast<int>(Segment::kDs)].base = 0x1000;
  cpu().segment[static_cast<int>(Segment::kGs)].base = 0x1000;
  std::uint64_t linear = 0;
  EXPECT_TRUE(linear_address(cpu(), Segment::kDs, 0x10, 4, false, linear));
  EXPECT_EQ(linear, 0x10u);
  EXPECT_TRUE(linear_address(cpu(), Segment::kGs, 0x10, 4, false, linear));
  EXPECT_EQ(linear, 0x1010u);
  EXPECT_FALSE(linear_address(cpu(), Segment::kDs, 0x7FFF'FFFF'FFFD, 4, false, linear));
  EXPECT_EQ(cpu().fault.vector, vector::kProtection);
  EXPECT_FALSE(linear_address(cpu(), Segment::kSs, 1ull << 63, 4, false, linear));
  EXPECT_EQ(cpu().fault.vector, vector::kStack);
}

TEST_F(MmuTest, limits_and_types_outside_of_long_mode) {
  init_cpu(cpu());
  SegmentRegister& ds = cpu().segment[static_cast<int>(Segment::kDs)];
  std::uint64_t linear = 0;
  ds.base = 0xFFFF'FFF0;
  EXPECT_TRUE(linear_address(cpu(), Segment::kDs, 0x20, 2, true, linear));
  EXPECT_EQ(linear, 0x10u);
  EXPECT_TRUE(linear_address(cpu(), Segment::kDs, 0xFFFE, 2, true, linear));
  EXPECT_FALSE(linear_address(cpu(), Segment::kDs, 0xFFFF, 2, true, linear));
  ds.attributes = 0x91;  // read-only
  EXPECT_TRUE(linear_address(cpu(), Segment::kDs, 0, 2, false, linear));
  EXPECT_FALSE(linear_address(cpu(), Segment::kDs, 0, 2, true, linear));
  ds.attributes = 0x97;  // expand-down, writable, 16 bit
  ds.limit = 0xFFF;
  EXPECT_FALSE(linear_address(cpu(), Segment::kDs, 0xFFF, 1, true, linear));
  EXPECT_TRUE(linear_address(cpu(), Segment::kDs, 0x1000, 1, true, linear));
  EXPECT_FALSE(linear_address(cpu(), Segment::kDs, 0xFFFF, 2, true, linear));
  ds.usable = false;
  EXPECT_FALSE(linear_address(cpu(), Segment::kDs, 0x1000, 1, false, linear));
}

TEST_F(MmuTest, alignment_checks_reach_user_accesses_with_a_full_tlb) {
  map(kAddress, kPage | kPresent | kWritable | kUser);
  set_cpl(3);
  EXPECT_EQ(read(kAddress), kFine);
  cpu().cr0 |= 1u << 18;
  set_ac(true);
  EXPECT_EQ(probe(cpu().read_tlb, kAddress, 4), nullptr);
  std::uint64_t linear = 0;
  EXPECT_FALSE(linear_address(cpu(), Segment::kDs, kAddress + 1, 4, false, linear));
  EXPECT_EQ(cpu().fault.vector, vector::kAlignment);
  EXPECT_EQ(read(kAddress), kFine);
  set_ac(false);
  EXPECT_NE(probe(cpu().read_tlb, kAddress, 4), nullptr);
}

}  // namespace
}  // namespace sm::soft
