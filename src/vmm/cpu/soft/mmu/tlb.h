// TlbBank: the translations of one privilege and address space: reads, writes and instruction
// fetches, each direct-mapped. Flushing costs what was filled since the last flush.
//
// Calls remember where they lead (CallLink and Uop::target in fast/uop.h). That belongs to an
// epoch, a number that no other bank ever has and that changes with whatever could make such a link
// wrong: fetch translations that go, also those that the tables above have long replaced by others,
// and code.
//
// Thread: the vCPU's own.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/mmu/physical_memory.h"

namespace sm::soft {

struct CodePage;

// Where decoded code of a virtual page is. `tag`: page address and, in the low bits, CodeMode.
struct FetchEntry {
  std::uint64_t tag;
  CodePage* page;
};
inline constexpr std::size_t kFetchEntries = 256;

// Jump caches: all addresses of one page share a group of slots, so that dropping a page looks at
// those alone. In it addresses less than 64 bytes apart do not share a slot, nor do those of
// functions, multiples of 16, that are near one another. Groups are small, so that a host page
// serves the code of four.
inline constexpr std::size_t kJumpsPerPage = 64;
inline constexpr std::size_t kJumpEntries = 256 * kJumpsPerPage;
inline std::size_t jump_slot(std::uint64_t linear) {
  const std::uint64_t group = (linear / kPageSize) * kJumpsPerPage % kJumpEntries;
  return group | (linear ^ linear >> 6) % kJumpsPerPage;
}

// A set of slot numbers.
template <std::size_t N>
class SlotSet {
 public:
  void add(std::size_t slot) { words_[slot / 64] |= 1ull << slot % 64; }
  template <class Work>
  void take_each(Work&& work) {
    for (std::size_t i = 0; i < words_.size(); ++i) take_word(i, work);
  }
  bool has(std::size_t slot) const { return (words_[slot / 64] >> slot % 64 & 1) != 0; }
  // Calls work for the members in [first, first + count), multiples of 64, and takes them out.
  template <class Work>
  void take_range(std::size_t first, std::size_t count, Work&& work) {
    for (std::size_t i = first / 64; i < (first + count) / 64; ++i) take_word(i, work);
  }
  template <class Work>
  void for_each(Work&& work) const {
    for (std::size_t i = 0; i < words_.size(); ++i) {
      for (std::uint64_t word = words_[i]; word != 0; word &= word - 1) {
        work(i * 64 + static_cast<std::size_t>(std::countr_zero(word)));
      }
    }
  }
  bool empty() const {
    for (const std::uint64_t word : words_) {
      if (word != 0) return false;
    }
    return true;
  }

 private:
  template <class Work>
  void take_word(std::size_t i, Work& work) {
    for (std::uint64_t word = words_[i]; word != 0; word &= word - 1) {
      work(i * 64 + static_cast<std::size_t>(std::countr_zero(word)));
    }
    words_[i] = 0;
  }
  std::array<std::uint64_t, N / 64> words_{};
};

class TlbBank {
 public:
  TlbBank() {
    clear_slot(0);
    clear_fetch(0);
    clear_jump(0);
    set_number(0);
  }
  static constexpr std::uint64_t kEpochStep = 16;
  // Of this bank among those of its vCPU, less than kEpochStep.
  void set_number(std::uint64_t number) { epoch() = kEpochStep + number; }

  const TlbEntry* reads() const { return read_.get(); }
  const TlbEntry* writes() const { return write_.get(); }
  const JumpEntry* jumps() const { return jump_.get(); }
  const FetchEntry& fetch(std::uint64_t linear) const {
    return fetch_[(linear / kPageSize) % kFetchEntries];
  }

  // `linear` and `host` are those of the page. `is_local`: goes with the address space;
  // `page_shift`: of the page that this is a 4 KiB slice of.
  void insert(std::uint64_t linear, std::byte* host, bool is_write, bool is_local,
              std::uint32_t page_shift) {
    const std::size_t slot = slot_of(linear);
    if (read_[slot].tag != linear) clear_slot(slot);
    read_[slot] = {linear, host};
    if (is_write) write_[slot] = {linear, host};
    filled_.add(slot);
    if (is_local) local_.add(slot);
    note_shift(linear, page_shift);
  }
  void insert_fetch(std::uint64_t linear, CodeMode mode, CodePage* page, bool is_local,
                    std::uint32_t page_shift) {
    const std::size_t slot = (linear / kPageSize) % kFetchEntries;
    fetch_[slot] = {linear | static_cast<std::uint64_t>(mode), page};
    fetch_filled_.add(slot);
    if (is_local) fetch_local_.add(slot);
    fetched_[half_of(linear)] = true;
    fetched_local_ = fetched_local_ || is_local;
    note_shift(linear, page_shift);
  }

  // The page of `linear` has a fetch entry.
  void insert_jump(std::uint64_t linear, const Uop* block) {
    const std::size_t slot = jump_slot(linear);
    jump_[slot] = {linear, block};
    jump_filled_.add(slot);
    if (fetch_local_.has((linear / kPageSize) % kFetchEntries)) jump_local_.add(slot);
  }

  // A lookup follows before any call is executed in this bank.
  void flush() {
    filled_.take_each([this](std::size_t slot) { clear_slot(slot); });
    local_ = {};
    flush_fetch();
    largest_shift_.fill(kSmallShift);
    fetched_.fill(false);
    fetched_local_ = false;
  }
  void flush_local() {
    if (fetched_local_) begin_epoch();
    local_.take_each([this](std::size_t slot) { clear_slot(slot); });
    fetch_local_.take_each([this](std::size_t slot) { clear_fetch(slot); });
    jump_local_.take_each([this](std::size_t slot) { clear_jump(slot); });
  }
  void flush_fetch() {
    begin_epoch();
    if (!fetched_[0] && !fetched_[1]) return;
    fetch_filled_.take_each([this](std::size_t slot) { clear_fetch(slot); });
    fetch_local_ = {};
    flush_jumps();
  }
  // What leads to decoded code that is about to go.
  template <class Owns>
  void drop_code(const CodePage* page, Owns&& owns) {
    begin_epoch();  // also when the bank is empty: calls of the code at hand may remember it
    if (!fetched_[0] && !fetched_[1]) return;
    fetch_filled_.for_each([&](std::size_t slot) {
      if (fetch_[slot].page == page) clear_fetch(slot);
    });
    jump_filled_.for_each([&](std::size_t slot) {
      if (owns(jump_[slot].block)) clear_jump(slot);
    });
  }
  // All slices of the page that holds `linear`, however large it is.
  void flush_page(std::uint64_t linear) {
    // Of every bank, most of which have nothing there and perhaps no memory yet.
    if (filled_.has(slot_of(linear))) clear_slot(slot_of(linear));
    const std::size_t fetch = (linear / kPageSize) % kFetchEntries;
    if (fetch_filled_.has(fetch)) clear_fetch(fetch);
    if (fetched_[half_of(linear)]) begin_epoch();
    const std::uint32_t shift = largest_shift_[half_of(linear)];
    if (shift == kSmallShift) {
      constexpr std::size_t kGroups = kJumpEntries / kJumpsPerPage;
      jump_filled_.take_range(linear / kPageSize % kGroups * kJumpsPerPage, kJumpsPerPage,
                              [this](std::size_t slot) { clear_jump(slot); });
      return;
    }
    const std::uint64_t mask = ~0ull << shift;
    filled_.for_each([&](std::size_t slot) {
      if (((read_[slot].tag ^ linear) & mask) == 0) clear_slot(slot);
    });
    fetch_filled_.for_each([&](std::size_t slot) {
      if (((fetch_[slot].tag ^ linear) & mask) == 0) clear_fetch(slot);
    });
    jump_filled_.for_each([&](std::size_t slot) {
      if (((jump_[slot].address ^ linear) & mask) == 0) clear_jump(slot);
    });
  }
  // Write translations to one page of RAM.
  void drop_writes(const std::byte* host) {
    filled_.for_each([&](std::size_t slot) {
      if (write_[slot].host == host) write_[slot] = {empty_tag(slot), nullptr};
    });
  }

 private:
  static constexpr std::uint32_t kSmallShift = 12;
  static std::size_t half_of(std::uint64_t linear) { return linear >> 63; }
  void note_shift(std::uint64_t linear, std::uint32_t page_shift) {
    std::uint32_t& largest = largest_shift_[half_of(linear)];
    largest = largest < page_shift ? page_shift : largest;
  }
  static std::size_t slot_of(std::uint64_t linear) { return (linear / kPageSize) % kTlbEntries; }
  // Belongs into another slot, so that no address hits; of all slots but one it is 0, as fresh
  // memory has it.
  static std::uint64_t empty_tag(std::size_t slot) { return slot == 0 ? kPageSize : 0; }
  void clear_slot(std::size_t slot) { read_[slot] = write_[slot] = {empty_tag(slot), nullptr}; }
  void clear_fetch(std::size_t slot) { fetch_[slot] = {empty_tag(slot), nullptr}; }
  void clear_jump(std::size_t slot) { jump_[slot] = {empty_tag(slot), nullptr}; }
  // Behind the jump cache, where handlers reach it without a pointer of its own.
  std::uint64_t& epoch() { return jump_[kJumpEntries].address; }
  void begin_epoch() { epoch() += kEpochStep; }
  void flush_jumps() {
    jump_filled_.take_each([this](std::size_t slot) { clear_jump(slot); });
    jump_local_ = {};
  }

  // Large and mostly unused: from calloc(), so that they cost memory only where they are used.
  struct Free {
    void operator()(void* entries) const { std::free(entries); }
  };
  template <class T>
  using Table = std::unique_ptr<T[], Free>;
  template <class T>
  static Table<T> table(std::size_t count) {
    auto* entries = static_cast<T*>(std::calloc(count, sizeof(T)));
    if (entries == nullptr) std::abort();
    return Table<T>(entries);
  }
  Table<TlbEntry> read_ = table<TlbEntry>(kTlbEntries), write_ = table<TlbEntry>(kTlbEntries);
  Table<FetchEntry> fetch_ = table<FetchEntry>(kFetchEntries);
  Table<JumpEntry> jump_ = table<JumpEntry>(kJumpEntries + 1);
  SlotSet<kTlbEntries> filled_, local_;
  SlotSet<kFetchEntries> fetch_filled_, fetch_local_;
  SlotSet<kJumpEntries> jump_filled_, jump_local_;
  // Of the translations in each half of the address space: kernels use large pages for themselves,
  // and dropping a program's page should not have to look at those.
  std::array<std::uint32_t, 2> largest_shift_{kSmallShift, kSmallShift};
  // Whether there were fetch translations since the last flush: in each half, and such as go with
  // the address space. A kernel's do not: what its calls know outlives changes of that.
  std::array<bool, 2> fetched_{};
  bool fetched_local_ = false;
};

}  // namespace sm::soft
