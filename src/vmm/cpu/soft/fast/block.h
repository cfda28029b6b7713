// BlockPage: the blocks of one page of 64-bit code, found by where they start.
// Thread: that of the vCPU whose code cache it is in.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "vmm/cpu/soft/fast/uop.h"
#include "vmm/cpu/soft/insn.h"

namespace sm::soft {

// Memory of a code cache's blocks: handed out piece behind piece, since what is made together is
// executed together and a page of the host costs more to come by than the code in it to decode.
// Given back all at once. In chunks that grow with what there is, up to a limit, so that little
// code takes little memory; behind what they hand out there is always one slot that may be read:
// see go_on().
class BlockMemory {
 public:
  // A block's head takes the place of a uop before its uops.
  struct alignas(32) Slot {
    std::byte bytes[sizeof(Uop)];
  };
  Slot* add_slots(std::size_t count);  // not initialised; at most kMaxBlock + 2
  // Every block is gone; a first chunk is kept.
  void clear();

 private:
  void use_last_chunk(std::size_t bytes);

  struct Free {
    std::align_val_t alignment;
    void operator()(std::byte* chunk) const { ::operator delete(chunk, alignment); }
  };
  std::vector<std::unique_ptr<std::byte, Free>> chunks_;
  std::size_t bytes_ = 0;  // of all chunks
  Slot* at_ = nullptr;
  std::size_t left_ = 0;
};

class BlockPage {
 public:
  // Null when no block starts there.
  const Uop* find(std::uint64_t offset) const {
    for (const BlockHead* head = buckets_[offset % kBuckets]; head != nullptr;
         head = head->next_in_bucket) {
      if (head->offset == offset) return head->uops();
    }
    return nullptr;
  }
  // `uops` are those of `insns`, in order, and an exit behind them but for jumps and returns;
  // `host` are the page's bytes.
  const Uop* add(BlockMemory& memory, std::uint64_t offset, const std::byte* host,
                 std::span<const Uop> uops, std::span<const Insn> insns);
  bool owns(const Uop* block) const {
    return block != nullptr && BlockHead::of(block)->page == this;
  }

 private:
  static constexpr std::size_t kBuckets = 32;
  std::array<BlockHead*, kBuckets> buckets_{};
};

}  // namespace sm::soft
