#include "vmm/cpu/soft/fast/block.h"

#include <algorithm>
#include <memory>
#include <new>

namespace sm::soft {

const Uop* BlockPage::add(std::uint64_t offset, std::span<const Uop> uops,
                          std::span<const DecodedInsn> insns) {
  DecodedInsn* kept_insns = insns_.add(insns.size());
  std::copy(insns.begin(), insns.end(), kept_insns);
  Slot* slots = slots_.add(1 + uops.size());
  // SAFETY: a slot has the size and at least the alignment of a head and of a uop.
  auto* kept_uops = reinterpret_cast<Uop*>(slots + 1);
  std::uninitialized_copy(uops.begin(), uops.end(), kept_uops);
  BlockHead*& bucket = buckets_[offset % kBuckets];
  bucket = new (slots) BlockHead{.next_in_bucket = bucket,
                                 .insns = kept_insns,
                                 .offset = static_cast<std::uint16_t>(offset),
                                 .insn_count = static_cast<std::uint8_t>(insns.size())};
  insn_count_ += insns.size();
  return kept_uops;
}

}  // namespace sm::soft
