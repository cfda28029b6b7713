// What events and system instructions tell the MMU. Declared here, implemented by mmu/: these are
// the only moments at which the address space, the rights or the paging mode of a vCPU change, so
// the MMU may cache anything that depends on them in between.
// Thread: the vCPU's own. None of these may fail or touch Cpu::fault; the new values stand in Cpu
// already when they are called. Spec: SDM vol. 3, 4.10.4.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

// Cpu::cpl has changed: select the TLB bank. Only called on a change.
void cpl_changed(Cpu& cpu);

// CR0, CR4 or EFER has changed in a way that concerns paging (CR0.PG, WP, PE; CR4.PSE, PAE, PGE,
// PCIDE, SMEP, SMAP; EFER.LMA, NXE): all translations go, global ones too. CR3 is as before.
void paging_changed(Cpu& cpu);

// With PAE paging and without long mode: whether the four page-directory pointers at `cr3` may be
// loaded, that is, no reserved bit is set in one that is present. Spec: SDM vol. 3, 4.4.1.
bool pae_pointers_valid(Cpu& cpu, std::uint64_t cr3);

// CR3 was written, perhaps with the same value. `no_flush`: bit 63 of the operand with CR4.PCIDE;
// Cpu::cr3 never holds that bit. Without it the translations of the new PCID go (of all PCIDs
// when CR4.PCIDE is clear), global ones stay.
void cr3_written(Cpu& cpu, bool no_flush);

// INVLPG: the page of `linear` in the current PCID, and global translations of it. Any value,
// non-canonical too (then nothing is to be done).
void invalidate_page(Cpu& cpu, std::uint64_t linear);

// INVPCID; the operands have been checked (`pcid` < 4096, `linear` canonical for kAddress).
enum class InvpcidType : std::uint8_t {
  kAddress,        // one page of one PCID, not global translations
  kSingle,         // one PCID, not global translations
  kAllWithGlobal,  // everything
  kAllButGlobal,   // all PCIDs, not global translations
};
void invalidate_pcid(Cpu& cpu, InvpcidType type, std::uint16_t pcid, std::uint64_t linear);

// EFLAGS.AC has changed by CLAC, STAC, IRET, SYSCALL, an event or the like: with CR4.SMAP and CPL
// < 3 supervisor accesses to user pages are now refused or allowed. (POPF belongs to another part
// and calls it as well.) Only called on a change.
void access_flag_changed(Cpu& cpu);

}  // namespace sm::soft
