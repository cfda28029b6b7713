// What the tests of the MMU and of code that is written share: a machine with page tables that a
// test fills, vCPUs in long mode, accesses that say how they failed.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "vmm/cpu/soft/access.h"
#include "vmm/cpu/soft/code_cache.h"
#include "vmm/cpu/soft/event/segments.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/mmu/mmu.h"
#include "vmm/cpu/soft/reset.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

inline constexpr std::uint64_t kMemory = 8ull << 20;
inline constexpr std::uint64_t kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 0x20,
                               kDirty = 0x40, kLarge = 0x80, kGlobal = 0x100,
                               kNoExecute = 1ull << 63;
inline constexpr std::uint64_t kCr0Wp = 1ull << 16, kCr0Paging = 0x8000'0001;
inline constexpr std::uint64_t kCr4Pse = 1u << 4, kCr4Pae = 1u << 5, kCr4Pge = 1u << 7,
                               kCr4Pcide = 1u << 17, kCr4Smep = 1u << 20, kCr4Smap = 1u << 21;
inline constexpr std::uint64_t kLongMode = 0x500, kNxe = 0x800;
inline constexpr std::uint64_t kRoot = 0x10000;
inline constexpr std::uint64_t kPage = 0x40'0000;   // a page of RAM that tests map
inline constexpr std::uint64_t kOther = 0x40'1000;  // another
inline constexpr std::uint64_t kAddress = 0x7F00'1234'5000;

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

inline constexpr std::optional<std::uint32_t> kFine = std::nullopt;

}  // namespace sm::soft
