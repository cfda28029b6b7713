#include "vmm/cpu/soft/fast/block.h"

#include <algorithm>
#include <memory>

namespace sm::soft {

const Uop* BlockPage::add(std::uint64_t offset, std::span<const Uop> uops,
                          std::span<const DecodedInsn> insns) {
  const std::size_t insns_at = sizeof(BlockHead) + uops.size_bytes();
  static_assert(alignof(DecodedInsn) <= alignof(Uop));
  auto* memory = static_cast<std::byte*>(::operator new(insns_at + insns.size_bytes(), kAlignment));
  memory_.emplace_back(memory);

  // SAFETY: the three lie one behind the other in `memory`, each at a multiple of its alignment.
  auto* kept_insns = reinterpret_cast<DecodedInsn*>(memory + insns_at);
  std::uninitialized_copy(insns.begin(), insns.end(), kept_insns);
  auto* kept_uops = reinterpret_cast<Uop*>(memory + sizeof(BlockHead));
  std::uninitialized_copy(uops.begin(), uops.end(), kept_uops);
  BlockHead*& bucket = buckets_[offset % kBuckets];
  bucket = new (memory) BlockHead{.next_in_bucket = bucket,
                                  .insns = kept_insns,
                                  .offset = static_cast<std::uint16_t>(offset),
                                  .insn_count = static_cast<std::uint8_t>(insns.size())};
  insn_count_ += insns.size();
  return kept_uops;
}

}  // namespace sm::soft
