#include "vmm/cpu/soft/exec/mxcsr.h"

#include <array>
#include <bit>

namespace sm::soft {

namespace {

std::uint32_t unmasked(std::uint32_t guest) { return ~(guest >> 7) & mxcsr::kFlags; }

bool is_tiny_single(std::uint32_t value) {
  return (value & 0x7F800000u) == 0 && (value & 0x007FFFFFu) != 0;
}
bool is_tiny_double(std::uint64_t value) {
  return (value & 0x7FF0000000000000u) == 0 && (value & 0x000FFFFFFFFFFFFFu) != 0;
}

bool any_tiny(TinyResults where, Vec result) {
  const auto singles = std::bit_cast<std::array<std::uint32_t, 4>>(result);
  const auto doubles = std::bit_cast<std::array<std::uint64_t, 2>>(result);
  switch (where) {
    case TinyResults::kNone:
      return false;
    case TinyResults::kSingle:
      return is_tiny_single(singles[0]);
    case TinyResults::kTwoSingles:
      return is_tiny_single(singles[0]) || is_tiny_single(singles[1]);
    case TinyResults::kSingles:
      return is_tiny_single(singles[0]) || is_tiny_single(singles[1]) ||
             is_tiny_single(singles[2]) || is_tiny_single(singles[3]);
    case TinyResults::kDouble:
      return is_tiny_double(doubles[0]);
    case TinyResults::kDoubles:
      return is_tiny_double(doubles[0]) || is_tiny_double(doubles[1]);
  }
  return false;
}

}  // namespace

std::uint32_t host_mxcsr_for(std::uint32_t guest) {
  std::uint32_t host = (guest & mxcsr::kValid) | mxcsr::kMasks;
  if (unmasked(guest) != 0) {
    host &= ~mxcsr::kFlags;  // what this operation raises, nothing else
  }
  if ((unmasked(guest) & mxcsr::kUnderflow) != 0) {
    host &= ~mxcsr::kFlushToZero;  // has no effect then
  }
  return host;
}

bool finish_float(Cpu& cpu, std::uint32_t raised, TinyResults tiny, Vec result) {
  const std::uint32_t enabled = unmasked(cpu.fx.mxcsr);
  if ((enabled & mxcsr::kUnderflow) != 0 && any_tiny(tiny, result)) {
    raised |= mxcsr::kUnderflow;
  }
  const std::uint32_t stopping = raised & enabled;
  // Exceptions found before the computation keep it from happening: none of the others then.
  constexpr std::uint32_t kBefore = mxcsr::kInvalid | mxcsr::kDenormal | mxcsr::kZeroDivide;
  if ((stopping & kBefore) != 0) {
    raised &= kBefore;
  }
  cpu.fx.mxcsr |= raised;
  if (stopping == 0) {
    return true;
  }
  raise(cpu, (cpu.cr4 & kCr4Osxmmexcpt) != 0 ? vector::kSimd : vector::kUndefined);
  return false;
}

}  // namespace sm::soft
