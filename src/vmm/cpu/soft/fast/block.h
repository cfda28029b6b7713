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

#include "vmm/cpu/soft/decoded_insn.h"
#include "vmm/cpu/soft/fast/uop.h"

namespace sm::soft {

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
  // `uops` are those of `insns`, in order, and an exit behind them.
  const Uop* add(std::uint64_t offset, std::span<const Uop> uops,
                 std::span<const DecodedInsn> insns);
  std::size_t insn_count() const { return insn_count_; }

 private:
  static constexpr std::size_t kBuckets = 32;
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete(memory, kAlignment); }
  };

  std::array<BlockHead*, kBuckets> buckets_{};
  std::vector<std::unique_ptr<std::byte, Free>> memory_;
  std::size_t insn_count_ = 0;
};

}  // namespace sm::soft
