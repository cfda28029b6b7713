// Translation: the instructions of a block, from the page's bytes to uops. Pure; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/cpu/soft/decoded_insn.h"
#include "vmm/cpu/soft/fast/uop.h"

namespace sm::soft {

inline constexpr std::size_t kMaxBlock = 32;  // instructions

struct TranslatedBlock {
  std::array<Uop, kMaxBlock + 1> uops;
  std::array<DecodedInsn, kMaxBlock> insns;
  std::size_t count = 0;  // of instructions; one more of uops

  std::span<const Uop> all_uops() const { return {uops.data(), count + 1}; }
  std::span<const DecodedInsn> all_insns() const { return {insns.data(), count}; }
};

// Translates the block at `offset` of a page of 64-bit code. False: not even its first instruction
// can be kept: it leaves the page or is none.
bool translate(std::span<const std::uint8_t, 4096> page, std::uint16_t offset,
               TranslatedBlock& out);

}  // namespace sm::soft
