#include "vmm/cpu/soft/fast/block.h"

#include <sys/mman.h>

#include <algorithm>
#include <memory>
#include <new>

namespace sm::soft {

namespace {

constexpr std::size_t kChunkBytes = 64U << 10U;
constexpr auto kChunkAlignment = std::align_val_t{4096};

}  // namespace

template <class T>
T* BlockMemory::Arena<T>::add(std::size_t count) {
  if (count > left_) {
    auto* chunk = static_cast<T*>(::operator new(kChunkBytes, kChunkAlignment));
    chunks_.emplace_back(chunk);
    // All pages in one call instead of a fault for each. Older hosts do not know it: then those.
    ::madvise(chunk, kChunkBytes, MADV_POPULATE_WRITE);
    at_ = chunk;
    left_ = kChunkBytes / sizeof(T);
  }
  T* result = at_;
  at_ += count;
  left_ -= count;
  return result;
}

template <class T>
void BlockMemory::Arena<T>::clear() {
  if (chunks_.empty()) return;
  chunks_.erase(chunks_.begin() + 1, chunks_.end());
  at_ = chunks_.front().get();
  left_ = kChunkBytes / sizeof(T);
}

template <class T>
void BlockMemory::Arena<T>::Free::operator()(T* chunk) const {
  ::operator delete(chunk, kChunkAlignment);
}

template class BlockMemory::Arena<BlockMemory::Slot>;
template class BlockMemory::Arena<Insn>;

void BlockMemory::clear() {
  slots_.clear();
  insns_.clear();
}

const Uop* BlockPage::add(BlockMemory& memory, std::uint64_t offset, std::span<const Uop> uops,
                          std::span<const Insn> insns) {
  Insn* kept_insns = memory.add_insns(insns.size());
  std::uninitialized_copy(insns.begin(), insns.end(), kept_insns);
  BlockMemory::Slot* slots = memory.add_slots(1 + uops.size());
  // SAFETY: a slot has the size and at least the alignment of a head and of a uop.
  auto* kept_uops = reinterpret_cast<Uop*>(slots + 1);
  std::uninitialized_copy(uops.begin(), uops.end(), kept_uops);
  BlockHead*& bucket = buckets_[offset % kBuckets];
  bucket = new (slots) BlockHead{.next_in_bucket = bucket,
                                 .page = this,
                                 .insns = kept_insns,
                                 .offset = static_cast<std::uint16_t>(offset),
                                 .insn_count = static_cast<std::uint8_t>(insns.size())};
  return kept_uops;
}

}  // namespace sm::soft
