#include "vmm/cpu/soft/fast/insn_cache.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "vmm/cpu/soft/decode/decoder.h"
#include "vmm/cpu/soft/decode/plain_decoder.h"
#include "vmm/cpu/soft/mmu/physical_memory.h"

namespace sm::soft {

namespace {

// Whether `insn` may be executed in the uop's place. SAFETY: behind a block's last uop there may be
// none, so nothing but another jump of the same kind may be there; and HLT ends a block.
bool may_stand_for(const Insn& insn, const Uop* uop) {
  const BlockHead& head = head_of(uop);
  const bool is_last = uop->place + 1 == head.insn_count;
  const bool is_fit = is_last ? insn.op == head.last_op : insn.op != Op::kHlt;
  return is_fit && uop->offset + insn.length == uop->next;
}

}  // namespace

bool InsnCache::decode_again(const Uop* uop, Entry& entry) {
  std::array<std::uint8_t, kMaxInsnLength + kPlainBytes> bytes;
  const std::size_t size = std::min<std::size_t>(bytes.size(), kPageSize - uop->offset);
  std::memcpy(bytes.data(), head_of(uop).host + uop->offset, size);
  const DecodeResult result = decode(std::span(bytes).first(size), CodeMode::k64, entry.insn);
  const bool is_valid = result == DecodeResult::kOk && may_stand_for(entry.insn, uop);
  entry.uop = is_valid ? uop : nullptr;
  entry.generation = generation_;
  return entry.uop != nullptr;
}

}  // namespace sm::soft
