// BlockPage: the blocks of one page of 64-bit code, found by where they start.
// Thread: that of the vCPU whose code cache it is in.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "vmm/cpu/soft/decoded_insn.h"
#include "vmm/cpu/soft/fast/uop.h"

namespace sm::soft {

// Memory that grows only: pieces of chunks, one behind the other, so that what is made together
// lies together.
template <class T>
class Arena {
 public:
  T* add(std::size_t count) {
    if (count > left_) {
      left_ = count > next_size_ ? count : next_size_;
      chunks_.push_back({std::make_unique_for_overwrite<T[]>(left_), left_});
      at_ = chunks_.back().memory.get();
      next_size_ = next_size_ < kLargestChunk ? 2 * next_size_ : kLargestChunk;
    }
    T* result = at_;
    at_ += count;
    left_ -= count;
    return result;
  }

  bool owns(const void* pointer) const {
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    return std::any_of(chunks_.begin(), chunks_.end(), [address](const Chunk& chunk) {
      return address - reinterpret_cast<std::uintptr_t>(chunk.memory.get()) <
             chunk.size * sizeof(T);
    });
  }

 private:
  struct Chunk {
    std::unique_ptr<T[]> memory;
    std::size_t size;
  };
  static constexpr std::size_t kFirstChunk = 64, kLargestChunk = 1024;
  std::vector<Chunk> chunks_;
  T* at_ = nullptr;
  std::size_t left_ = 0;
  std::size_t next_size_ = kFirstChunk;
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
  // `uops` are those of `insns`, in order, and an exit behind them.
  const Uop* add(std::uint64_t offset, std::span<const Uop> uops,
                 std::span<const DecodedInsn> insns);
  std::size_t insn_count() const { return insn_count_; }
  bool owns(const Uop* block) const { return slots_.owns(block); }

 private:
  static constexpr std::size_t kBuckets = 32;
  std::array<BlockHead*, kBuckets> buckets_{};
  // A block's head takes the place of a uop before its uops.
  struct alignas(32) Slot {
    std::byte bytes[sizeof(Uop)];
  };
  Arena<Slot> slots_;
  Arena<DecodedInsn> insns_;
  std::size_t insn_count_ = 0;
};

}  // namespace sm::soft
