#include "vmm/cpu/soft/mmu/mmu.h"

#include "vmm/cpu/soft/code_cache.h"
#include "vmm/cpu/soft/event/debug.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

namespace {

constexpr std::uint64_t kCr4Pcide = 1ull << 17;
constexpr std::uint64_t kCr0AlignmentMask = 1ull << 18;

std::uint64_t page_of(std::uint64_t linear) { return linear & ~kPageMask; }

bool is_canonical(std::uint64_t linear) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(linear << 16) >> 16) == linear;
}

}  // namespace

Mmu::Mmu(Cpu& cpu, Machine& machine)
    : cpu_(cpu),
      machine_(machine),
      supervisor_(std::make_unique<TlbBank>()),
      users_(std::make_unique<std::array<UserBank, kUserBanks>>()),
      empty_(std::make_unique<TlbBank>()) {
  cpu_.mmu = this;
  static_assert(kUserBanks < TlbBank::kEpochStep);
  std::uint64_t number = 1;  // of the supervisor's it is 0
  for (UserBank& user : *users_) user.bank.set_number(number++);
  paging_changed();
}

// ---- Banks ------------------------------------------------------------------------------------

// Alignment checks (SDM vol. 3, 6.15, #AC) are made on the slow path, so while they are armed every
// access has to take it.
void Mmu::select_bank() {
  current_ = cpu_.cpl == 3 ? user_ : supervisor_.get();
  const bool checks_alignment =
      cpu_.cpl == 3 && (cpu_.cr0 & kCr0AlignmentMask) != 0 && (cpu_.other_flags & eflags::kAc) != 0;
  const TlbBank* data = checks_alignment || watching_ ? empty_.get() : current_;
  cpu_.read_tlb = data->reads();
  cpu_.write_tlb = data->writes();
  cpu_.jumps = current_->jumps();
}

void Mmu::watch(bool on) {
  if (on == watching_) return;
  watching_ = on;
  hits_ = 0;
  select_bank();
}

void Mmu::note_access(std::uint64_t linear, std::uint32_t size, bool is_write) {
  hits_ |= data_breakpoints(cpu_, linear, size, is_write);
}

std::uint16_t Mmu::current_pcid() const {
  return (cpu_.cr4 & kCr4Pcide) != 0 ? static_cast<std::uint16_t>(cpu_.cr3 & 0xFFF) : 0;
}

void Mmu::take_user_bank(bool keep) {
  const std::uint16_t pcid = current_pcid();
  UserBank& wanted = user_bank(pcid);
  if (!keep || wanted.pcid != pcid) {
    wanted.bank.flush();
    wanted.pcid = pcid;
  }
  user_ = &wanted.bank;
  select_bank();
}

void Mmu::paging_changed() {
  mode_ = paging_mode(cpu_);
  flush_all();
}

void Mmu::flush_all() {
  supervisor_->flush();
  for (UserBank& user : *users_) {
    user.bank.flush();
    user.pcid = kNoPcid;
  }
  take_user_bank(false);
}

void Mmu::cr3_written(bool no_flush) {
  supervisor_->flush_local();
  take_user_bank(no_flush);
}

void Mmu::invalidate_page(std::uint64_t linear) {
  supervisor_->flush_page(page_of(linear));
  // A global user page may be in each of them.
  for (UserBank& user : *users_) user.bank.flush_page(page_of(linear));
}

void Mmu::invalidate_pcid(InvpcidType type, std::uint16_t pcid, std::uint64_t linear) {
  UserBank& user = user_bank(pcid);
  switch (type) {
    case InvpcidType::kAddress:
      supervisor_->flush_page(page_of(linear));
      if (user.pcid == pcid) user.bank.flush_page(page_of(linear));
      return;
    case InvpcidType::kSingle:
      supervisor_->flush_local();
      if (user.pcid == pcid) user.bank.flush();
      return;
    case InvpcidType::kAllWithGlobal:
    case InvpcidType::kAllButGlobal:
      return flush_all();
  }
}

void Mmu::flush_fetches() {
  supervisor_->flush_fetch();
  for (UserBank& user : *users_) user.bank.flush_fetch();
}

void Mmu::drop_code(const CodePage& page) {
  const auto owns = [&page](const Uop* block) { return page.blocks.owns(block); };
  supervisor_->drop_code(&page, owns);
  for (UserBank& user : *users_) user.bank.drop_code(&page, owns);
}

void Mmu::drop_writer(std::uint64_t page) {
  const std::byte* host = machine_.memory().host_of_page(page);
  supervisor_->drop_writes(host);
  for (UserBank& user : *users_) user.bank.drop_writes(host);
  machine_.pages().drop_writer(page, cpu_.index);
}

// ---- Mail -------------------------------------------------------------------------------------

void Mmu::handle_translation_mail() {
  const MmuMailbox::TranslationDrops drops = mailbox_.take_translation_drops();
  if (drops.flush || drops.writers.all()) flush_all();
  for (const std::uint64_t page : drops.writers.pages()) drop_writer(page);
  mailbox_.set_handled(drops.ticket);
}

void Mmu::handle_mail() {
  handle_translation_mail();
  const PageList code = mailbox_.take_code_drops();
  if (!code.empty() && cpu_.code != nullptr) cpu_.code->drop(code);
}

// ---- Translation ------------------------------------------------------------------------------

bool Mmu::check_canonical(std::uint64_t linear) {
  if (!cpu_.long_mode() || is_canonical(linear)) return true;
  raise(cpu_, vector::kProtection, 0);
  return false;
}

bool Mmu::translate(std::uint64_t linear, AccessKind kind, Privilege privilege, Translation& out) {
  const Accessor accessor{.user = is_user(privilege),
                          .explicit_with_ac = privilege == Privilege::kCurrent &&
                                              (cpu_.other_flags & eflags::kAc) != 0};
  std::uint32_t error_code = 0;
  ++cpu_.counts.tlb_misses;
  if (walk_pages(machine_.memory(), mode_, cpu_.cr3, linear, kind, accessor, out, error_code)) {
    return true;
  }
  cpu_.fault = {
      .vector = vector::kPage, .has_error_code = true, .error_code = error_code, .address = linear};
  return false;
}

// The one place where write translations come from: whoever wants to know of first writes to a page
// (dirty tracking) keeps them out here and marks the page in store_slow().
void Mmu::insert(std::uint64_t linear, bool is_user, bool is_write, const Translation& translation,
                 std::byte* host) {
  const bool no_paging = mode_.kind == PagingKind::kOff;
  if (!is_user && translation.user && mode_.smap) {
    user_->insert(linear, host, is_write, true, translation.page_shift);
    return;
  }
  TlbBank& bank = is_user ? *user_ : *supervisor_;
  const bool is_local = !no_paging && (!translation.global || translation.user);
  bank.insert(linear, host, is_write, is_local, translation.page_shift);
}

bool Mmu::find(std::uint64_t linear, AccessKind kind, Privilege privilege, Target& target) {
  const bool user = is_user(privilege);
  const bool is_write = kind == AccessKind::kWrite;
  const auto look_in = [&](const TlbBank& bank) {
    target.host = probe(is_write ? bank.writes() : bank.reads(), linear, 1);
    return target.host != nullptr;
  };
  target.has_code = false;
  if (look_in(user ? *user_ : *supervisor_)) return true;
  const bool may_use_user_pages = !user && mode_.smap && privilege == Privilege::kCurrent &&
                                  (cpu_.other_flags & eflags::kAc) != 0;
  if (may_use_user_pages && look_in(*user_)) return true;

  Translation translation;
  if (!check_canonical(linear) || !translate(linear, kind, privilege, translation)) return false;
  target.physical = translation.physical;
  target.host = machine_.memory().host(translation.physical);
  if (target.host == nullptr) return true;
  if (is_write) {
    const std::uint64_t page = machine_.memory().page_number(translation.physical);
    target.has_code = !machine_.pages().add_writer(page, cpu_.index);
    if (target.has_code) return true;
  }
  // What a supervisor may write to with CR0.WP clear, a user may not: such a write translation must
  // not get into the user's bank.
  const bool beyond_user = !user && translation.user && is_write && !mode_.write_protect;
  if (beyond_user && mode_.smap) return true;
  insert(page_of(linear), user, is_write, translation, target.host - (linear & kPageMask));
  return true;
}

bool Mmu::find_fetch(std::uint64_t linear, FetchPage& page) {
  if (!check_canonical(linear)) return false;
  Translation translation;
  if (!translate(linear, AccessKind::kFetch, Privilege::kCurrent, translation)) return false;
  page.physical = page_of(translation.physical);
  page.host = machine_.memory().host(page.physical);
  page.is_local = mode_.kind != PagingKind::kOff && (!translation.global || translation.user);
  page.page_shift = translation.page_shift;
  return true;
}

// ---- What events and system instructions call -------------------------------------------------

void cpl_changed(Cpu& cpu) { cpu.mmu->select_bank(); }
void paging_changed(Cpu& cpu) { cpu.mmu->paging_changed(); }
bool pae_pointers_valid(Cpu& cpu, std::uint64_t cr3) {
  return pae_pointers_valid(cpu.machine->memory(), cr3);
}
void cr3_written(Cpu& cpu, bool no_flush) { cpu.mmu->cr3_written(no_flush); }
void invalidate_page(Cpu& cpu, std::uint64_t linear) { cpu.mmu->invalidate_page(linear); }
void invalidate_pcid(Cpu& cpu, InvpcidType type, std::uint16_t pcid, std::uint64_t linear) {
  cpu.mmu->invalidate_pcid(type, pcid, linear);
}
// Supervisor accesses ask for the flag each time; a user's flag arms alignment checks.
void access_flag_changed(Cpu& cpu) { cpu.mmu->select_bank(); }

}  // namespace sm::soft
