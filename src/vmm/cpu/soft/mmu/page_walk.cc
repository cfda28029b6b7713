#include "vmm/cpu/soft/mmu/page_walk.h"

#include <array>
#include <atomic>
#include <span>

namespace sm::soft {

namespace {

constexpr std::uint64_t kPresent = 1ull << 0, kWritable = 1ull << 1, kUser = 1ull << 2,
                        kAccessed = 1ull << 5, kDirty = 1ull << 6, kLarge = 1ull << 7,
                        kGlobal = 1ull << 8, kNoExecute = 1ull << 63;
constexpr std::uint64_t kAddressMask = ((1ull << kPhysicalBits) - 1) & ~kPageMask;
constexpr std::uint64_t kAboveAddress = 0x000F'FFFF'FFFF'FFFF & ~((1ull << kPhysicalBits) - 1);

// One level of tables: which bits of the linear address choose the entry, and what an entry may be.
struct Level {
  std::uint8_t shift;
  std::uint8_t index_bits;
  bool may_be_large;
  bool has_rights;         // not the PAE pointers: their bits 1, 2, 5 are no rights
  std::uint64_t reserved;  // besides address bits above the limit and NX without EFER.NXE
};
constexpr std::array<Level, 4> k4Levels = {{{39, 9, false, true, kLarge},
                                            {30, 9, true, true, 0},
                                            {21, 9, true, true, 0},
                                            {12, 9, false, true, 0}}};
constexpr std::uint64_t kPaeHigh = 0x7FF0'0000'0000'0000;  // ignored in 64-bit mode only
constexpr std::array<Level, 3> kPaeLevels = {{{30, 2, false, false, kPaeHigh | kNoExecute | 0x1E6},
                                              {21, 9, true, true, kPaeHigh},
                                              {12, 9, false, true, kPaeHigh}}};
constexpr std::array<Level, 2> k32Levels = {{{22, 10, true, true, 0}, {12, 10, false, true, 0}}};

std::span<const Level> levels_of(PagingKind kind) {
  if (kind == PagingKind::k4Level) return k4Levels;
  if (kind == PagingKind::kPae) return kPaeLevels;
  return k32Levels;
}

// An entry where it lies: 8 bytes, or 4 with 32-bit paging. Where there is no RAM all bits read as
// ones and nothing can be stored.
class Entry {
 public:
  Entry(const PhysicalMemory& memory, std::uint64_t physical, bool is_wide)
      : host_(memory.host(physical)), is_wide_(is_wide) {
    if (host_ == nullptr) {
      value_ = is_wide ? ~0ull : 0xFFFF'FFFFull;
    } else if (is_wide) {
      value_ = wide().load(std::memory_order_relaxed);
    } else {
      value_ = narrow().load(std::memory_order_relaxed);
    }
  }
  Entry() = default;
  std::uint64_t value() const { return value_; }

  // False: the entry has changed since it was read.
  bool set(std::uint64_t bits) {
    if ((value_ & bits) == bits || host_ == nullptr) return true;
    if (is_wide_) return wide().compare_exchange_strong(value_, value_ | bits);
    auto expected = static_cast<std::uint32_t>(value_);
    return narrow().compare_exchange_strong(expected, expected | static_cast<std::uint32_t>(bits));
  }

 private:
  // SAFETY: entries are aligned to their size and RAM outlives the walk.
  std::atomic_ref<std::uint64_t> wide() const {
    return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(host_));
  }
  std::atomic_ref<std::uint32_t> narrow() const {
    return std::atomic_ref<std::uint32_t>(*reinterpret_cast<std::uint32_t*>(host_));
  }
  std::byte* host_ = nullptr;
  bool is_wide_ = true;
  std::uint64_t value_ = 0;
};

std::uint64_t reserved_bits(const PagingMode& mode, const Level& level, std::uint64_t entry,
                            bool is_large) {
  if (mode.kind == PagingKind::k32Bit) return is_large ? entry & 1ull << 21 : 0;
  std::uint64_t reserved = level.reserved | kAboveAddress;
  if (!mode.no_execute) reserved |= kNoExecute;
  // Of a large page's address only bit 12 (PAT) is none.
  if (is_large) reserved |= ((1ull << level.shift) - 1) & ~0x1FFFull;
  return reserved & entry;
}

// Spec: SDM vol. 3, 4.3: PSE-36 keeps address bits 32..39 in bits 13..20.
std::uint64_t large_page_base(const PagingMode& mode, const Level& level, std::uint64_t entry) {
  if (mode.kind == PagingKind::k32Bit) {
    return (entry & 0xFFC0'0000) | ((entry >> 13) & 0xFF) << 32;
  }
  return entry & kAddressMask & ~((1ull << level.shift) - 1);
}

struct Rights {
  bool writable = true;
  bool user = true;
  bool executable = true;
};

// Spec: SDM vol. 3, 4.6.1.
bool permitted(const PagingMode& mode, Rights rights, AccessKind kind, Accessor accessor) {
  if (accessor.user && !rights.user) return false;
  switch (kind) {
    case AccessKind::kFetch:
      return rights.executable && (accessor.user || !rights.user || !mode.smep);
    case AccessKind::kWrite:
      if (!rights.writable && (accessor.user || mode.write_protect)) return false;
      break;
    case AccessKind::kRead:
      break;
  }
  return accessor.user || !rights.user || !mode.smap || accessor.explicit_with_ac;
}

std::uint32_t access_bits(const PagingMode& mode, AccessKind kind, Accessor accessor) {
  std::uint32_t bits = accessor.user ? page_fault::kUser : 0;
  if (kind == AccessKind::kWrite) bits |= page_fault::kWrite;
  const bool has_no_execute = mode.no_execute && mode.kind != PagingKind::k32Bit;
  if (kind == AccessKind::kFetch && (has_no_execute || mode.smep)) bits |= page_fault::kFetch;
  return bits;
}

enum class Outcome : std::uint8_t { kDone, kFault, kChanged };

struct Walker {
  const PhysicalMemory& memory;
  const PagingMode& mode;
  std::uint64_t linear;
  AccessKind kind;
  Accessor accessor;
  Translation& out;
  std::uint32_t& fault;

  Outcome walk(std::uint64_t cr3) {
    const std::span<const Level> levels = levels_of(mode.kind);
    const bool is_wide = mode.kind != PagingKind::k32Bit;
    std::uint64_t table = mode.kind == PagingKind::kPae ? cr3 & 0xFFFF'FFE0 : cr3 & kAddressMask;
    std::array<Entry, 4> upper;
    std::size_t depth = 0;
    Rights rights;
    for (const Level& level : levels) {
      const std::uint64_t index = (linear >> level.shift) & ((1ull << level.index_bits) - 1);
      Entry entry(memory, table + index * (is_wide ? 8 : 4), is_wide);
      const std::uint64_t value = entry.value();
      if ((value & kPresent) == 0) return Outcome::kFault;
      const bool is_large =
          level.may_be_large && (value & kLarge) != 0 && (is_wide || mode.large_32bit);
      if (reserved_bits(mode, level, value, is_large) != 0) {
        fault |= page_fault::kReserved | page_fault::kPresent;
        return Outcome::kFault;
      }
      if (level.has_rights) {
        rights.writable = rights.writable && (value & kWritable) != 0;
        rights.user = rights.user && (value & kUser) != 0;
        rights.executable = rights.executable && (!is_wide || (value & kNoExecute) == 0);
      }
      if (is_large || level.shift == levels.back().shift) {
        return finish(entry, level, is_large, rights, std::span(upper).first(depth));
      }
      if (level.has_rights) upper[depth++] = entry;
      table = value & kAddressMask;
    }
    return Outcome::kFault;
  }

  Outcome finish(Entry& leaf, const Level& level, bool is_large, Rights rights,
                 std::span<Entry> upper) {
    if (!permitted(mode, rights, kind, accessor)) {
      fault |= page_fault::kPresent;
      return Outcome::kFault;
    }
    for (Entry& entry : upper) {
      if (!entry.set(kAccessed)) return Outcome::kChanged;
    }
    if (!leaf.set(kind == AccessKind::kWrite ? kAccessed | kDirty : kAccessed)) {
      return Outcome::kChanged;
    }
    const std::uint64_t base =
        is_large ? large_page_base(mode, level, leaf.value()) : leaf.value() & kAddressMask;
    out.physical = base | (linear & ((1ull << level.shift) - 1));
    out.page_shift = level.shift;
    out.user = rights.user;
    out.global = mode.global_pages && (leaf.value() & kGlobal) != 0;
    return Outcome::kDone;
  }
};

}  // namespace

PagingMode paging_mode(const Cpu& cpu) {
  constexpr std::uint64_t kCr0Paging = 1ull << 31, kCr0WriteProtect = 1ull << 16;
  constexpr std::uint64_t kCr4Pse = 1ull << 4, kCr4Pae = 1ull << 5, kCr4Pge = 1ull << 7,
                          kCr4Smep = 1ull << 20, kCr4Smap = 1ull << 21;
  constexpr std::uint64_t kEferNoExecute = 1ull << 11;
  PagingMode mode;
  if ((cpu.cr0 & kCr0Paging) == 0) return mode;
  mode.kind = cpu.long_mode()            ? PagingKind::k4Level
              : (cpu.cr4 & kCr4Pae) != 0 ? PagingKind::kPae
                                         : PagingKind::k32Bit;
  mode.write_protect = (cpu.cr0 & kCr0WriteProtect) != 0;
  mode.large_32bit = (cpu.cr4 & kCr4Pse) != 0;
  mode.global_pages = (cpu.cr4 & kCr4Pge) != 0;
  mode.smep = (cpu.cr4 & kCr4Smep) != 0;
  mode.smap = (cpu.cr4 & kCr4Smap) != 0;
  mode.no_execute = (cpu.efer & kEferNoExecute) != 0;
  return mode;
}

// Spec: SDM vol. 3, 4.4.1.
bool pae_pointers_valid(const PhysicalMemory& memory, std::uint64_t cr3) {
  constexpr std::uint64_t kReserved = kPaeLevels[0].reserved | kAboveAddress;
  for (std::uint64_t i = 0; i < 4; ++i) {
    const std::uint64_t value = Entry(memory, (cr3 & 0xFFFF'FFE0) + i * 8, true).value();
    if ((value & kPresent) != 0 && (value & kReserved) != 0) return false;
  }
  return true;
}

// Spec: SDM vol. 3, 4.8. A guest that keeps changing the tables under the walk gets a page fault in
// the end, which is always allowed to be spurious.
bool walk_pages(const PhysicalMemory& memory, const PagingMode& mode, std::uint64_t cr3,
                std::uint64_t linear, AccessKind kind, Accessor accessor, Translation& out,
                std::uint32_t& error_code) {
  constexpr int kTries = 64;
  if (mode.kind == PagingKind::kOff) {
    out = {.physical = linear};
    return true;
  }
  for (int i = 0; i < kTries; ++i) {
    error_code = access_bits(mode, kind, accessor);
    Walker walker{memory, mode, linear, kind, accessor, out, error_code};
    const Outcome outcome = walker.walk(cr3);
    if (outcome != Outcome::kChanged) return outcome == Outcome::kDone;
  }
  return false;
}

}  // namespace sm::soft
