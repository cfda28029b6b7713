// CodeCache: the decoded instructions of one vCPU, by physical page and code mode. Private to the
// vCPU; the machine's PageMap knows which pages are in it, and drop() takes out what was written
// to. Limit: kMaxInsns and kMaxPages; when one is reached everything goes and decoding starts anew.
// Thread: the vCPU's own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/insn.h"
#include "vmm/cpu/soft/mmu/mailbox.h"
#include "vmm/cpu/soft/mmu/mmu.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

struct DecodedInsn {
  Insn insn;
  Semantic function = nullptr;
};

// The decoded instructions of one page in one mode. None of them leaves the page.
struct CodePage {
  std::uint64_t page = 0;                     // number in PhysicalMemory
  const std::byte* host = nullptr;            // the page's bytes
  std::array<std::uint16_t, kPageSize> at{};  // by offset: place in `insns` + 1, 0 = not decoded
  std::vector<DecodedInsn> insns;
};

class CodeCache {
 public:
  CodeCache(Cpu& cpu, Machine& machine) : cpu_(cpu), machine_(machine) { cpu_.code = this; }

  // The instruction at Cpu::rip, valid until drop() or the next call. Null: Cpu::fault is set.
  const DecodedInsn* fetch() {
    const std::uint64_t linear = instruction_address();
    const FetchEntry& entry = cpu_.mmu->current_bank().fetch(linear);
    if (entry.tag == ((linear & ~kPageMask) | static_cast<std::uint64_t>(cpu_.mode))) {
      const std::uint16_t place = entry.page->at[linear & kPageMask];
      if (place != 0) return &entry.page->insns[place - 1u];
    }
    return fetch_slow(linear);
  }
  // Linear address of the next instruction.
  std::uint64_t instruction_address() const {
    if (cpu_.mode == CodeMode::k64) return cpu_.rip;
    return (cpu_.segment[static_cast<std::size_t>(Segment::kCs)].base + cpu_.rip) & 0xFFFF'FFFF;
  }

  // Between two instructions.
  void drop(const PageList& pages);
  void drop_all();

 private:
  static constexpr std::size_t kMaxInsns = 512 * 1024;
  static constexpr std::size_t kMaxPages = 2048;
  static constexpr std::size_t kModes = 3;
  struct PageModes {
    std::array<std::unique_ptr<CodePage>, kModes> mode;
  };

  const DecodedInsn* fetch_slow(std::uint64_t linear);
  const DecodedInsn* decode_uncached(std::uint64_t linear);
  const DecodedInsn* decode_into(CodePage& page, std::uint64_t offset, std::uint64_t linear);
  CodePage* page_for(const Mmu::FetchPage& where);
  bool check_limit(std::uint32_t length);

  Cpu& cpu_;
  Machine& machine_;
  std::unordered_map<std::uint64_t, PageModes> pages_;
  std::size_t page_count_ = 0;
  std::size_t insn_count_ = 0;
  DecodedInsn single_;  // of an instruction that is not kept
};

}  // namespace sm::soft
