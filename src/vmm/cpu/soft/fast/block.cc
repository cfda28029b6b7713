#include "vmm/cpu/soft/fast/block.h"

#include <sys/mman.h>

#include <algorithm>
#include <memory>
#include <new>

namespace sm::soft {

namespace {

constexpr std::size_t kSmallChunk = 64U << 10U, kHugePage = 2U << 20U;

std::byte* new_chunk(std::size_t bytes, std::align_val_t alignment) {
  auto* chunk = static_cast<std::byte*>(::operator new(bytes, alignment));
  if (bytes == kHugePage) ::madvise(chunk, bytes, MADV_HUGEPAGE);
  // All pages in one call instead of a fault for each. Older hosts do not know it: then those.
  ::madvise(chunk, bytes, MADV_POPULATE_WRITE);
  return chunk;
}

}  // namespace

// Uops are read in every order: much code is on more pages than processors keep translations of.
BlockMemory::Slot* BlockMemory::add_slots(std::size_t count) {
  if (count > left_) {
    const std::size_t bytes = std::clamp(bytes_, kSmallChunk, kHugePage);
    const std::align_val_t alignment{bytes < kHugePage ? 4096 : kHugePage};
    chunks_.emplace_back(new_chunk(bytes, alignment), Free{alignment});
    use_last_chunk(bytes);
    bytes_ += bytes;
  }
  Slot* result = at_;
  at_ += count;
  left_ -= count;
  return result;
}

void BlockMemory::use_last_chunk(std::size_t bytes) {
  at_ = reinterpret_cast<Slot*>(chunks_.back().get());
  left_ = bytes / sizeof(Slot) - 1;
}

void BlockMemory::clear() {
  if (chunks_.empty()) return;
  chunks_.erase(chunks_.begin() + 1, chunks_.end());
  use_last_chunk(kSmallChunk);
  bytes_ = kSmallChunk;
}

const Uop* BlockPage::add(BlockMemory& memory, std::uint64_t offset, const std::byte* host,
                          std::span<const Uop> uops, std::span<const Insn> insns) {
  BlockMemory::Slot* slots = memory.add_slots(1 + uops.size());
  // SAFETY: a slot has the size and at least the alignment of a head and of a uop.
  auto* kept_uops = reinterpret_cast<Uop*>(slots + 1);
  std::uninitialized_copy(uops.begin(), uops.end(), kept_uops);
  if (insns.back().op == Op::kCallNear) new (slots + 1 + insns.size()) CallLink;
  BlockHead*& bucket = buckets_[offset % kBuckets];
  bucket = new (slots) BlockHead{.next_in_bucket = bucket,
                                 .page = this,
                                 .host = host,
                                 .offset = static_cast<std::uint16_t>(offset),
                                 .last_op = insns.back().op,
                                 .insn_count = static_cast<std::uint8_t>(insns.size())};
  return kept_uops;
}

}  // namespace sm::soft
