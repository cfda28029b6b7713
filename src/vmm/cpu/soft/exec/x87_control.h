// x87 control instructions and the environment in memory. They do not run on the host: all they do
// is to move fields of FxState.
#pragma once

#include <span>

#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

std::span<const SemanticEntry> x87_control_semantics();

// The control word as the processor takes it: bit 6 is one, bits that do not exist are zero.
inline std::uint16_t x87_control_word(std::uint16_t value) {
  return static_cast<std::uint16_t>((value & 0x1F7F) | 0x40);
}

}  // namespace sm::soft
