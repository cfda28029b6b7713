// CodeCache: the decoded instructions of one vCPU, by physical page and code mode. Private to the
// vCPU; the machine's PageMap knows which pages are in it, and drop() takes out what was written
// to. Single instructions are kept for the reference way to execute, blocks for fast/.
// Limit: kMaxInsns and kMaxPages; when one is reached everything goes and decoding starts anew.
// Thread: the vCPU's own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/fast/block.h"
#include "vmm/cpu/soft/fast/insn_cache.h"
#include "vmm/cpu/soft/fast/translate.h"
#include "vmm/cpu/soft/insn.h"
#include "vmm/cpu/soft/mmu/mailbox.h"
#include "vmm/cpu/soft/mmu/mmu.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

struct DecodedPage {
  std::array<std::uint16_t, kPageSize> at{};  // by offset: place in `insns` + 1, 0 = not decoded
  std::vector<Insn> insns;
};

// The decoded code of one page in one mode. No instruction leaves the page.
struct CodePage {
  std::uint64_t page = 0;           // number in PhysicalMemory
  const std::byte* host = nullptr;  // the page's bytes
  std::unique_ptr<DecodedPage> single;
  BlockPage blocks;  // 64-bit mode only
  std::size_t single_count() const { return single == nullptr ? 0 : single->insns.size(); }
};

class CodeCache {
 public:
  CodeCache(Cpu& cpu, Machine& machine)
      : cpu_(cpu),
        machine_(machine),
        crossings_(std::make_unique<std::array<Crossing, kCrossings>>()),
        translated_(std::make_unique<TranslatedBlock>()) {
    cpu_.code = this;
    cpu_.blocks.insns = &insns_;
  }

  // The instruction at Cpu::rip, valid until drop() or the next call. Null: Cpu::fault is set.
  const Insn* fetch() {
    const std::uint64_t linear = instruction_address();
    if (const CodePage* page = known_page(linear)) {
      if (const DecodedPage* single = page->single.get()) {
        const std::uint16_t place = single->at[linear & kPageMask];
        if (place != 0) {
          const Insn& kept = single->insns[place - 1u];
          return cpu_.mode == CodeMode::k64 || check_limit(kept.length) ? &kept : nullptr;
        }
      }
    }
    return fetch_slow(linear);
  }
  // Linear address of the next instruction.
  std::uint64_t instruction_address() const {
    if (cpu_.mode == CodeMode::k64) return cpu_.rip;
    return (cpu_.segment[static_cast<std::size_t>(Segment::kCs)].base + cpu_.rip) & 0xFFFF'FFFF;
  }

  // ---- For blocks.
  // Where the code of `linear` is kept, with a fetch translation that leads to it. Null: it cannot
  // be or, with `fault`, not even be fetched. Between two instructions, since it may drop anything.
  CodePage* find_page(std::uint64_t linear, bool& fault);
  // The instruction at `linear`, which leaves its page or cannot be kept, as fetch().
  const Insn* fetch_crossing(std::uint64_t linear);
  // What that would find, if it is there already. Null: unknown.
  const Insn* kept_crossing(std::uint64_t linear) const;
  // Whether that has kept an instruction there, which may have changed since.
  bool is_crossing(std::uint64_t linear) const { return crossing_at(linear).linear == linear; }
  // Where blocks are put together.
  TranslatedBlock& translated() { return *translated_; }
  BlockMemory& memory() { return memory_; }
  void add_insns(std::size_t count) { insn_count_ += count; }
  bool full() const { return insn_count_ >= kMaxInsns; }
  // Counts how often something was dropped: then no pointer to a page or block is valid any more.
  std::uint64_t drops() const { return drops_; }

  // Between two instructions.
  void drop(const PageList& pages);
  void drop_all();

 private:
  static constexpr std::size_t kMaxInsns = 512 * 1024;
  static constexpr std::size_t kMaxPages = 8192;
  static constexpr std::size_t kModes = 3;
  struct PageModes {
    std::array<std::unique_ptr<CodePage>, kModes> mode;
  };

  const Insn* fetch_slow(std::uint64_t linear);
  // Where the TLB says the code of `linear` is. Null: it does not know.
  CodePage* known_page(std::uint64_t linear) const {
    const FetchEntry& entry = cpu_.mmu->current_bank().fetch(linear);
    const std::uint64_t tag = (linear & ~kPageMask) | static_cast<std::uint64_t>(cpu_.mode);
    return entry.tag == tag ? entry.page : nullptr;
  }
  // An instruction on two pages. It is as it was while both addresses lead to the same pages and
  // nothing was dropped.
  struct Crossing {
    std::uint64_t linear = 0;
    std::uint64_t drops = ~0ull;
    const CodePage* first = nullptr;
    const CodePage* second = nullptr;
    Insn decoded;
  };
  static constexpr std::size_t kCrossings = 512;
  Crossing& crossing_at(std::uint64_t linear) const {
    return (*crossings_)[linear / kPageSize % kCrossings];
  }

  const Insn* decode_uncached(std::uint64_t linear);
  const Insn* decode_into(CodePage& page, std::uint64_t offset, std::uint64_t linear);
  CodePage* page_for(const Mmu::FetchPage& where);
  std::size_t bytes_to_limit() const;
  bool check_limit(std::size_t length);

  Cpu& cpu_;
  Machine& machine_;
  std::unordered_map<std::uint64_t, PageModes> pages_;
  std::size_t page_count_ = 0;
  BlockMemory memory_;
  InsnCache insns_;
  std::size_t insn_count_ = 0;  // with those of dropped blocks, whose memory is still taken
  std::uint64_t drops_ = 0;
  Insn single_;  // of an instruction that is not kept
  std::unique_ptr<std::array<Crossing, kCrossings>> crossings_;
  std::unique_ptr<TranslatedBlock> translated_;
};

}  // namespace sm::soft
