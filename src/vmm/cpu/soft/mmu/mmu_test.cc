// Page walks, translation banks, device accesses and writes to code.
#include "vmm/cpu/soft/mmu/mmu.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "vmm/cpu/soft/access.h"
#include "vmm/cpu/soft/code_cache.h"
#include "vmm/cpu/soft/event/segments.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/reset.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {
namespace {

constexpr std::uint64_t kMemory = 8ull << 20;
constexpr std::uint64_t kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 0x20, kDirty = 0x40,
                        kLarge = 0x80, kGlobal = 0x100, kNoExecute = 1ull << 63;
constexpr std::uint64_t kCr0Wp = 1ull << 16, kCr0Paging = 0x8000'0001;
constexpr std::uint64_t kCr4Pse = 1u << 4, kCr4Pae = 1u << 5, kCr4Pge = 1u << 7,
                        kCr4Pcide = 1u << 17, kCr4Smep = 1u << 20, kCr4Smap = 1u << 21;
constexpr std::uint64_t kLongMode = 0x500, kNxe = 0x800;
constexpr std::uint64_t kRoot = 0x10000;
constexpr std::uint64_t kPage = 0x40'0000;   // a page of RAM that tests map
constexpr std::uint64_t kOther = 0x40'1000;  // another
constexpr std::uint64_t kAddress = 0x7F00'1234'5000;

class MmuTest : public testing::Test {
 protected:
  MmuTest() {
    EXPECT_TRUE(machine_.map(*memory_));
    add_vcpu(0);
    enter_long_mode();
  }

  struct Vcpu {
    explicit Vcpu(Machine& machine, std::uint32_t index)
        : cpu{.index = index, .machine = &machine}, mmu(cpu, machine), code(cpu, machine) {
      reset_cpu(cpu);
      machine.attach(cpu);
    }
    Cpu cpu;
    Mmu mmu;
    CodeCache code;
  };
  Vcpu& add_vcpu(std::uint32_t index) {
    return *vcpus_.emplace_back(std::make_unique<Vcpu>(machine_, index));
  }
  Cpu& cpu() { return vcpus_.front()->cpu; }
  Mmu& mmu() { return vcpus_.front()->mmu; }

  void enter_long_mode() {
    cpu().cr0 = kCr0Paging | kCr0Wp;
    cpu().cr4 = kCr4Pae | kCr4Pge;
    cpu().efer = kLongMode | kNxe;
    cpu().cr3 = kRoot;
    cpu().segment[1].attributes |= 1u << 13;
    cpu().mode = code_mode_of(cpu());
    mmu().paging_changed();
  }
  void set_cpl(std::uint8_t cpl) {
    cpu().cpl = cpl;
    cpl_changed(cpu());
  }
  void change_cr4(std::uint64_t set) {
    cpu().cr4 |= set;
    mmu().paging_changed();
  }
  void set_ac(bool value) {
    cpu().other_flags = value ? eflags::kAc : 0;
    access_flag_changed(cpu());
  }

  std::uint64_t& word(std::uint64_t physical) {
    return *reinterpret_cast<std::uint64_t*>(machine_.memory().host(physical));
  }
  std::uint32_t& half(std::uint64_t physical) {
    return *reinterpret_cast<std::uint32_t*>(machine_.memory().host(physical));
  }
  // Makes the tables down to `level` (1: 4 KiB, 2: 2 MiB, 3: 1 GiB) under `root`, with all rights,
  // and sets that level's entry. Returns where it is.
  std::uint64_t map(std::uint64_t linear, std::uint64_t entry, int level = 1,
                    std::uint64_t root = kRoot) {
    std::uint64_t table = root;
    for (int l = 4;; --l) {
      const std::uint64_t at = table + ((linear >> (3 + 9 * l)) & 511) * 8;
      if (l == level) {
        word(at) = entry;
        return at;
      }
      if ((word(at) & kPresent) == 0) {
        word(at) = next_table_ | kPresent | kWritable | kUser;
        next_table_ += 4096;
      }
      table = word(at) & 0xFF'FFFF'F000;
    }
  }

  // The error code of a page fault at the address, or nothing.
  std::optional<std::uint32_t> fault(bool ok) {
    if (ok) return std::nullopt;
    EXPECT_EQ(cpu().fault.vector, vector::kPage);
    EXPECT_TRUE(cpu().fault.has_error_code);
    return cpu().fault.error_code;
  }
  std::optional<std::uint32_t> read(std::uint64_t linear, Privilege p = Privilege::kCurrent) {
    std::uint32_t value = 0;
    return fault(load_linear(cpu(), linear, &value, 4, p));
  }
  std::optional<std::uint32_t> write(std::uint64_t linear, Privilege p = Privilege::kCurrent) {
    const std::uint32_t value = 0xABCD;
    return fault(store_linear(cpu(), linear, &value, 4, p));
  }
  std::optional<std::uint32_t> execute(std::uint64_t linear) {
    Mmu::FetchPage page;
    return fault(mmu().find_fetch(linear, page));
  }
  std::uint64_t value_at(std::uint64_t linear) {
    std::uint64_t value = 0;
    EXPECT_TRUE(load_linear(cpu(), linear, &value, 8));
    return value;
  }

  std::unique_ptr<GuestMemory> memory_ = GuestMemory::create(kMemory).value();
  Machine machine_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
  std::uint64_t next_table_ = kRoot + 0x1000;
};

constexpr std::optional<std::uint32_t> kFine = std::nullopt;

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

// ---- Writes to code ---------------------------------------------------------------------------

class CodeWriteTest : public MmuTest {
 protected:
  static constexpr std::uint8_t kNop = 0x90, kHlt = 0xF4;
  void put(std::uint64_t physical, std::uint8_t byte) {
    *machine_.memory().host(physical) = std::byte{byte};
  }
  Op op_at(Vcpu& vcpu, std::uint64_t linear) {
    vcpu.cpu.rip = linear;
    const Insn* decoded = vcpu.code.fetch();
    return decoded == nullptr ? Op::kInvalid : decoded->op;
  }
  bool mail(Cpu& cpu) { return (cpu.attention.load() & kAttentionMemory) != 0; }
};

TEST_F(CodeWriteTest, own_store_drops_decoded_code) {
  map(kAddress, kPage | kPresent | kWritable);
  EXPECT_EQ(write(kAddress + 64), kFine);  // a write translation that has to go
  put(kPage, kNop);
  EXPECT_EQ(op_at(*vcpus_[0], kAddress), Op::kNop);
  EXPECT_EQ(probe(cpu().write_tlb, kAddress, 1), nullptr);
  EXPECT_EQ(host_for_run(cpu(), kAddress, 1, true), nullptr);
  EXPECT_FALSE(mail(cpu()));
  const std::uint8_t hlt = kHlt;
  EXPECT_TRUE(store_linear(cpu(), kAddress, &hlt, 1));
  EXPECT_TRUE(mail(cpu()));
  mmu().handle_mail();
  EXPECT_EQ(op_at(*vcpus_[0], kAddress), Op::kHlt);
  // Nobody has code of the page any more after a drop: writes are fast again.
  EXPECT_TRUE(store_linear(cpu(), kAddress, &hlt, 1));
  mmu().handle_mail();
  EXPECT_TRUE(store_linear(cpu(), kAddress, &hlt, 1));
  EXPECT_NE(probe(cpu().write_tlb, kAddress, 1), nullptr);
}

TEST_F(CodeWriteTest, device_write_drops_decoded_code) {
  const auto observer = std::shared_ptr<MemoryObserver>(&machine_, [](MemoryObserver*) {});
  memory_->set_observer(observer);
  map(kAddress, kPage | kPresent);
  put(kPage, kNop);
  EXPECT_EQ(op_at(*vcpus_[0], kAddress), Op::kNop);
  ASSERT_TRUE(memory_->write_object(GuestPhysAddr(kPage + 0x1000), kHlt));
  EXPECT_FALSE(mail(cpu()));
  ASSERT_TRUE(memory_->write_object(GuestPhysAddr(kPage), kHlt));
  EXPECT_TRUE(mail(cpu()));
  mmu().handle_mail();
  EXPECT_EQ(op_at(*vcpus_[0], kAddress), Op::kHlt);
}

TEST_F(CodeWriteTest, other_vcpus_are_told_and_lose_their_write_translations) {
  map(kAddress, kPage | kPresent | kWritable);
  Vcpu& other = add_vcpu(1);
  other.cpu.cr0 = cpu().cr0;
  other.cpu.cr3 = cpu().cr3;
  other.cpu.cr4 = cpu().cr4;
  other.cpu.efer = cpu().efer;
  other.cpu.mode = CodeMode::k64;
  other.mmu.paging_changed();
  EXPECT_EQ(write(kAddress + 64), kFine);
  ASSERT_NE(probe(cpu().write_tlb, kAddress, 1), nullptr);
  // vCPU 0 is not in the guest, so nobody waits for it; it finds the request when it enters.
  put(kPage, kNop);
  EXPECT_EQ(op_at(other, kAddress), Op::kNop);
  EXPECT_TRUE(mail(cpu()));
  mmu().handle_mail();
  EXPECT_EQ(probe(cpu().write_tlb, kAddress, 1), nullptr);
  const std::uint8_t hlt = kHlt;
  EXPECT_TRUE(store_linear(cpu(), kAddress, &hlt, 1));
  EXPECT_TRUE(mail(other.cpu));
  other.mmu.handle_mail();
  EXPECT_EQ(op_at(other, kAddress), Op::kHlt);
}

TEST_F(CodeWriteTest, more_writes_than_the_mailbox_holds_drop_everything) {
  for (std::uint64_t i = 0; i < 100; ++i) {
    map(kAddress + i * 4096, (kPage + i * 4096) | kPresent | kWritable);
    put(kPage + i * 4096, kNop);
    EXPECT_EQ(op_at(*vcpus_[0], kAddress + i * 4096), Op::kNop);
  }
  for (std::uint64_t i = 0; i < 100; ++i) {
    const std::uint8_t hlt = kHlt;
    EXPECT_TRUE(store_linear(cpu(), kAddress + i * 4096, &hlt, 1));
  }
  mmu().handle_mail();
  for (std::uint64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(op_at(*vcpus_[0], kAddress + i * 4096), Op::kHlt);
  }
}

TEST_F(CodeWriteTest, instruction_over_two_pages_is_fetched_from_both) {
  map(kAddress, kPage | kPresent);
  map(kAddress + 4096, kOther | kPresent);
  put(kPage + 4095, 0xB8);  // mov eax, imm32
  word(kOther) = 0x1234'5678;
  cpu().rip = kAddress + 4095;
  const Insn* decoded = vcpus_[0]->code.fetch();
  ASSERT_NE(decoded, nullptr);
  EXPECT_EQ(decoded->imm & 0xFFFF'FFFF, 0x1234'5678);
  map(kAddress + 4096, 0);
  mmu().flush_all();
  EXPECT_EQ(vcpus_[0]->code.fetch(), nullptr);
  EXPECT_EQ(cpu().fault.address, kAddress + 4096);
  put(kPage + 4095, kNop);  // needs no second page
  mmu().flush_all();
  EXPECT_NE(vcpus_[0]->code.fetch(), nullptr);
}

// ---- Requests between vCPUs -------------------------------------------------------------------

TEST_F(MmuTest, post_wakes_a_sleeper) {
  for (int i = 0; i < 200; ++i) {
    cpu().attention.store(0);
    std::thread poster([&] { machine_.post(0, kAttentionTimer); });
    machine_.enter_guest(cpu());
    machine_.sleep(cpu(), kAttentionTimer, monotonic_ns() + 20'000'000'000);
    machine_.leave_guest(cpu());
    EXPECT_NE(cpu().attention.load() & kAttentionTimer, 0u) << "the wake-up was lost";
    poster.join();
  }
}

TEST_F(MmuTest, sleep_ends_at_its_deadline) {
  machine_.enter_guest(cpu());
  machine_.sleep(cpu(), kAttentionTimer, monotonic_ns() + 1'000'000);
  machine_.leave_guest(cpu());
  EXPECT_EQ(cpu().attention.load(), 0u);
}

// Two vCPUs add to one counter, each alone in the machine: without that additions would be lost.
TEST_F(MmuTest, stop_others_excludes_the_other) {
  constexpr int kRounds = 3000;
  Vcpu& other = add_vcpu(1);
  volatile std::uint64_t counter = 0;
  const auto work = [&](Cpu& own) {
    machine_.enter_guest(own);
    for (int i = 0; i < kRounds; ++i) {
      if ((own.attention.load() & kAttentionPause) != 0) machine_.give_way(own);
      const Machine::StopOthers alone(machine_, own);
      counter = counter + 1;
    }
    machine_.leave_guest(own);
  };
  std::thread second([&] { work(other.cpu); });
  work(cpu());
  second.join();
  EXPECT_EQ(counter, 2u * kRounds);
}

}  // namespace
}  // namespace sm::soft
