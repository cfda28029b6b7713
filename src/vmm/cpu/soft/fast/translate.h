// Translation: the instructions of a block, from the page's bytes to uops. Pure; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/cpu/soft/decode/decoder.h"
#include "vmm/cpu/soft/decode/plain_decoder.h"
#include "vmm/cpu/soft/fast/uop.h"
#include "vmm/cpu/soft/insn.h"

namespace sm::soft {

inline constexpr std::size_t kMaxBlock = 32;  // instructions

struct TranslatedBlock {
  std::array<Uop, kMaxBlock + 1> uops;
  std::array<Insn, kMaxBlock> insns;
  std::size_t count = 0;   // of instructions
  bool needs_exit = true;  // a uop behind them, which for a call becomes its CallLink

  // Those to be kept.
  std::span<const Uop> all_uops() const { return {uops.data(), count + (needs_exit ? 1 : 0)}; }
  std::span<const Insn> all_insns() const { return {insns.data(), count}; }
};

// How much of its page is read for a block, from where it starts: what it can depend on, and what
// the decoder's short way reads ahead.
inline constexpr std::size_t kBlockBytes = kMaxBlock * kMaxInsnLength + kPlainBytes;

// Translates the block at `offset` of a page of 64-bit code; `bytes` are those from there on,
// kBlockBytes or up to the page's end. `crossing`: the handler behind the last instruction when the
// one that follows leaves the page. False: not even the block's first instruction can be kept: it
// leaves the page or is none.
bool translate(std::span<const std::uint8_t> bytes, std::uint16_t offset, Handler crossing,
               TranslatedBlock& out);

}  // namespace sm::soft
