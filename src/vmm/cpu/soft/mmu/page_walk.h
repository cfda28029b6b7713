// The page walk: linear to physical by the guest's page tables, with the checks and the accessed
// and dirty bits of the processor. Writes to guest memory nothing but those bits, atomically. Any
// thread. Spec: SDM vol. 3, 4.3 to 4.8.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/mmu/physical_memory.h"

namespace sm::soft {

enum class AccessKind : std::uint8_t { kRead, kWrite, kFetch };

enum class PagingKind : std::uint8_t { kOff, k32Bit, kPae, k4Level };

// What CR0, CR4 and EFER say of paging.
struct PagingMode {
  PagingKind kind = PagingKind::kOff;
  bool write_protect = false;  // CR0.WP
  bool large_32bit = false;    // CR4.PSE
  bool global_pages = false;   // CR4.PGE
  bool smep = false;
  bool smap = false;
  bool no_execute = false;  // EFER.NXE
  bool operator==(const PagingMode&) const = default;
};
PagingMode paging_mode(const Cpu& cpu);

// Who accesses. An explicit supervisor access is what CPL 0 to 2 does by an instruction's operand;
// what the processor reads by itself (descriptor tables) is implicit.
struct Accessor {
  bool user = false;
  bool explicit_with_ac = false;  // explicit and EFLAGS.AC is set: SMAP does not apply
};

struct Translation {
  std::uint64_t physical = 0;  // of the address, not of its page
  std::uint32_t page_shift = 12;
  bool user = false;  // the page is a user page
  bool global = false;
};

// Bits of a page fault's error code.
namespace page_fault {
inline constexpr std::uint32_t kPresent = 1, kWrite = 2, kUser = 4, kReserved = 8, kFetch = 16;
}

// True: `out` is filled in. False: `error_code` is.
bool walk_pages(const PhysicalMemory& memory, const PagingMode& mode, std::uint64_t cr3,
                std::uint64_t linear, AccessKind kind, Accessor accessor, Translation& out,
                std::uint32_t& error_code);

// Whether none of the four page-directory pointers of PAE paging that are present has a reserved
// bit.
bool pae_pointers_valid(const PhysicalMemory& memory, std::uint64_t cr3);

// Address bits that page tables may use; those above are reserved.
inline constexpr std::uint32_t kPhysicalBits = 40;

}  // namespace sm::soft
