#include "vmm/cpu/soft/fast/insn_cache.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "vmm/cpu/soft/decode/decoder.h"
#include "vmm/cpu/soft/decode/plain_decoder.h"

namespace sm::soft {

bool InsnCache::decode_again(const Uop* uop, Entry& entry) {
  constexpr std::size_t kPage = 4096;
  std::array<std::uint8_t, kMaxInsnLength + kPlainBytes> bytes;
  const std::size_t size = std::min(bytes.size(), kPage - uop->offset);
  std::memcpy(bytes.data(), head_of(uop).host + uop->offset, size);
  const DecodeResult result = decode(std::span(bytes).first(size), CodeMode::k64, entry.insn);
  const bool is_as_long = uop->offset + entry.insn.length == uop->next;
  entry.uop = result == DecodeResult::kOk && is_as_long ? uop : nullptr;
  entry.generation = generation_;
  return entry.uop != nullptr;
}

}  // namespace sm::soft
