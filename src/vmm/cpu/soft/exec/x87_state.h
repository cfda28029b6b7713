// The x87 registers inside FxState: the stack, the tags, pending exceptions.
// FxState::st[i] is ST(i), so whatever moves TOP moves the registers in the array as well; the
// physical register of ST(i) is (TOP + i) mod 8.
// Spec: SDM vol. 1, 8.1.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

// Bits of the status word. The six lowest are the exceptions, in the order of the control word's
// masks.
namespace x87 {
inline constexpr std::uint16_t kInvalid = 1u << 0, kDenormal = 1u << 1, kZeroDivide = 1u << 2,
                               kOverflow = 1u << 3, kUnderflow = 1u << 4, kPrecision = 1u << 5,
                               kStackFault = 1u << 6, kErrorSummary = 1u << 7, kC0 = 1u << 8,
                               kC1 = 1u << 9, kC2 = 1u << 10, kTop = 7u << 11, kC3 = 1u << 14,
                               kBusy = 1u << 15;
inline constexpr std::uint16_t kExceptions = 0x3F;
inline constexpr std::uint16_t kDefaultControl = 0x37F;
}  // namespace x87

inline unsigned x87_top(const FxState& fx) { return (fx.status >> 11) & 7u; }

// An unmasked exception waits for the next waiting instruction. Judged by flags and masks, not by
// the summary bit, so that no restored state can make them disagree.
inline bool x87_pending(const FxState& fx) {
  return (fx.status & ~fx.control & x87::kExceptions) != 0;
}
// Makes the summary bits say what flags and masks say: after either was written.
inline void x87_update_summary(FxState& fx) {
  constexpr std::uint16_t kSummary = x87::kErrorSummary | x87::kBusy;
  fx.status =
      static_cast<std::uint16_t>(x87_pending(fx) ? fx.status | kSummary : fx.status & ~kSummary);
}

// Writes the field alone.
inline void x87_write_top(FxState& fx, unsigned top) {
  constexpr std::uint32_t kTop = x87::kTop;
  fx.status = static_cast<std::uint16_t>((fx.status & ~kTop) | ((top & 7u) << 11));
}

// Moves TOP. The physical registers keep their contents, so ST(i) names others.
inline void x87_set_top(FxState& fx, unsigned top) {
  const unsigned by = (top - x87_top(fx)) & 7u;
  std::rotate(fx.st.begin(), fx.st.begin() + by, fx.st.end());
  x87_write_top(fx, top);
}

inline bool x87_in_use(const FxState& fx, unsigned index) {
  return ((fx.abridged_tag >> ((x87_top(fx) + index) & 7u)) & 1u) != 0;
}
inline void x87_set_in_use(FxState& fx, unsigned index, bool in_use) {
  const unsigned bit = 1u << ((x87_top(fx) + index) & 7u);
  fx.abridged_tag =
      static_cast<std::uint8_t>(in_use ? fx.abridged_tag | bit : fx.abridged_tag & ~bit);
}

// Makes room for a new ST(0), whose contents the caller writes.
inline void x87_push(FxState& fx) {
  std::memmove(&fx.st[1], &fx.st[0], 7 * sizeof fx.st[0]);
  const unsigned top = (x87_top(fx) - 1) & 7u;
  x87_write_top(fx, top);
  fx.abridged_tag = static_cast<std::uint8_t>(fx.abridged_tag | (1u << top));
}
inline void x87_pop(FxState& fx) {
  const auto old = fx.st[0];
  std::memmove(&fx.st[0], &fx.st[1], 7 * sizeof fx.st[0]);
  fx.st[7] = old;
  const unsigned top = x87_top(fx);
  fx.abridged_tag = static_cast<std::uint8_t>(fx.abridged_tag & ~(1u << top));
  x87_write_top(fx, top + 1);
}

// The state after FNINIT. Register contents stay.
inline void x87_initialize(FxState& fx) {
  x87_set_top(fx, 0);
  fx.control = x87::kDefaultControl;
  fx.status = 0;
  fx.abridged_tag = 0;
  fx.opcode = 0;
  fx.instruction_pointer = fx.data_pointer = 0;
}

// The tag word with two bits per physical register (00 valid, 01 zero, 10 special, 11 empty), and
// back.
std::uint16_t x87_full_tags(const FxState& fx);
std::uint8_t x87_abridge_tags(std::uint16_t full);

// Whether a waiting x87 instruction may run; else the fault is set.
bool x87_ready(Cpu& cpu);
// The same for one that does not wait for exceptions.
bool x87_available(Cpu& cpu);

}  // namespace sm::soft
