// Mmu: the translations of one vCPU.
//
// Banks. Supervisor code uses one bank for everything; user code has a bank per address space
// (PCID). Entering or leaving the kernel selects a bank and flushes nothing. The supervisor bank
// knows which of its entries belong to the address space and drops those when CR3 is written. User
// pages are in it only while SMAP is off; with SMAP, supervisor accesses to user pages look into
// the user's bank each time.
// Write translations exist only for dirty pages of RAM without code (see PageMap).
//
// Thread: the vCPU's own; the mailbox's from any. Spec: SDM vol. 3, 4.10.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "vmm/cpu/soft/access.h"
#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/event/mmu_calls.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/mmu/mailbox.h"
#include "vmm/cpu/soft/mmu/page_walk.h"
#include "vmm/cpu/soft/mmu/tlb.h"

namespace sm::soft {

// Where an access inside one page goes: bytes of RAM or, when `host` is null, a device.
struct Target {
  std::byte* host = nullptr;
  std::uint64_t physical = 0;  // valid when host is null or `has_code`
  bool has_code = false;       // of a write: somebody may hold decoded code of the page
};

class Mmu {
 public:
  // Takes the rules from `cpu` as they are; attached to it from then on.
  Mmu(Cpu& cpu, Machine& machine);

  // Translates for an access that does not leave its page. False: Cpu::fault is set.
  bool find(std::uint64_t linear, AccessKind kind, Privilege privilege, Target& target);
  // Translates the page of an instruction fetch; `host` null: not RAM. False: Cpu::fault is set.
  struct FetchPage {
    std::byte* host = nullptr;   // of the page
    std::uint64_t physical = 0;  // of the page
    bool is_local = true;
    std::uint32_t page_shift = 12;
  };
  bool find_fetch(std::uint64_t linear, FetchPage& page);
  TlbBank& current_bank() { return *current_; }

  // The calls of event/mmu_calls.h.
  void select_bank();
  void paging_changed();
  void cr3_written(bool no_flush);
  void invalidate_page(std::uint64_t linear);
  void invalidate_pcid(InvpcidType type, std::uint16_t pcid, std::uint64_t linear);
  void flush_all();

  // Data breakpoints: while watching every access takes the slow path, which notes the hits (bits
  // of DR6) for whoever runs the instruction.
  void watch(bool on);
  bool watching() const { return watching_; }
  void note_access(std::uint64_t linear, std::uint32_t size, bool is_write);
  std::uint32_t take_hits() { return std::exchange(hits_, 0u); }

  // Decoded code goes, all of it or that of one page: no fetch translation may lead to it any more.
  void flush_fetches();
  void drop_code(const CodePage& page);
  void drop_writer(std::uint64_t page);

  MmuMailbox& mailbox() { return mailbox_; }
  // Translations may be dropped at any moment, decoded code only between two instructions.
  void handle_translation_mail();
  void handle_mail();

 private:
  static constexpr std::size_t kUserBanks = 8;
  static constexpr std::uint16_t kNoPcid = 0xFFFF;
  struct UserBank {
    std::uint16_t pcid = kNoPcid;
    TlbBank bank;
  };

  bool is_user(Privilege privilege) const {
    return cpu_.cpl == 3 && privilege == Privilege::kCurrent;
  }
  bool check_canonical(std::uint64_t linear);
  bool translate(std::uint64_t linear, AccessKind kind, Privilege privilege, Translation& out);
  void insert(std::uint64_t linear, bool is_user, bool is_write, const Translation& translation,
              std::byte* host);
  std::uint16_t current_pcid() const;
  UserBank& user_bank(std::uint16_t pcid) { return (*users_)[pcid % kUserBanks]; }
  void take_user_bank(bool keep);

  Cpu& cpu_;
  Machine& machine_;
  PagingMode mode_;
  std::unique_ptr<TlbBank> supervisor_;
  std::unique_ptr<std::array<UserBank, kUserBanks>> users_;
  std::unique_ptr<TlbBank> empty_;  // never filled: each access takes the slow path
  TlbBank* user_ = nullptr;         // of the current address space
  TlbBank* current_ = nullptr;      // of the current privilege, for fetches
  bool watching_ = false;
  std::uint32_t hits_ = 0;
  MmuMailbox mailbox_;
};

}  // namespace sm::soft
