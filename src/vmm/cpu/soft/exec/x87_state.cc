#include "vmm/cpu/soft/exec/x87_state.h"

#include "vmm/cpu/soft/exec/vector_common.h"

namespace sm::soft {

namespace {

enum Tag : unsigned { kValid = 0, kZero = 1, kSpecial = 2, kEmpty = 3 };

Tag tag_of(const std::array<std::uint8_t, 16>& bytes) {
  std::uint64_t significand = 0;
  std::uint16_t exponent = 0;
  std::memcpy(&significand, bytes.data(), sizeof significand);
  std::memcpy(&exponent, bytes.data() + 8, sizeof exponent);
  exponent &= 0x7FFF;
  if (exponent == 0) {
    return significand == 0 ? kZero : kSpecial;
  }
  const bool is_normal = exponent != 0x7FFF && (significand >> 63) != 0;
  return is_normal ? kValid : kSpecial;
}

}  // namespace

std::uint16_t x87_full_tags(const FxState& fx) {
  unsigned full = 0;
  for (unsigned i = 0; i < 8; ++i) {
    const unsigned physical = (x87_top(fx) + i) & 7u;
    const unsigned tag = x87_in_use(fx, i) ? tag_of(fx.st[i]) : kEmpty;
    full |= tag << (2 * physical);
  }
  return static_cast<std::uint16_t>(full);
}

std::uint8_t x87_abridge_tags(std::uint16_t full) {
  unsigned abridged = 0;
  for (unsigned physical = 0; physical < 8; ++physical) {
    const unsigned tag = (unsigned{full} >> (2 * physical)) & 3u;
    if (tag != kEmpty) abridged |= 1u << physical;
  }
  return static_cast<std::uint8_t>(abridged);
}

bool x87_available(Cpu& cpu) {
  if ((cpu.cr0 & (kCr0Em | kCr0Ts)) != 0) {
    raise(cpu, vector::kNoMath);
    return false;
  }
  return true;
}

bool x87_ready(Cpu& cpu) {
  if (!x87_available(cpu)) {
    return false;
  }
  // With CR0.NE clear the processor would signal FERR#; there is no such wire here.
  if (x87_pending(cpu.fx)) {
    raise(cpu, vector::kMath);
    return false;
  }
  return true;
}

}  // namespace sm::soft
