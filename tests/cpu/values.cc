#include "tests/cpu/values.h"

#include <array>
#include <cstring>

#include "tests/cpu/sandbox.h"

namespace sm::cpu_fuzz {

std::uint64_t integer_value(Random& random) {
  static constexpr std::array<std::uint64_t, 16> kLimits{
      0,          1,          2,          0x7F,
      0x80,       0xFF,       0x7FFF,     0x8000,
      0xFFFF,     0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
      1ull << 63, ~0ull >> 1, ~0ull,      0x0101010101010101};
  switch (random.below(8)) {
    case 0:
      return random.pick(kLimits);
    case 1:
      return 0 - random.pick(kLimits);
    case 2:
      return random.below(64);
    case 3:
      return kSandbox + random.below(kLayout.size() * kPage);
    case 4:
      return random.next() >> random.below(64);
    default:
      return random.next();
  }
}

namespace {

std::uint64_t double_value(Random& random) {
  static constexpr std::array<std::uint64_t, 14> kSpecial{
      0,
      0x3FF0000000000000,  // 0, 1
      0x4000000000000000,
      0x7FF0000000000000,  // 2, infinity
      0x7FF8000000000000,
      0x7FF0000000000001,  // quiet and signalling NaN
      0x7FFC123456789ABC,
      0x0000000000000001,  // NaN, smallest denormal
      0x000FFFFFFFFFFFFF,
      0x0010000000000000,  // largest denormal, smallest normal
      0x7FEFFFFFFFFFFFFF,
      0x41DFFFFFFFC00000,  // largest normal, 2^31-1
      0x43E0000000000000,
      0x3FDFFFFFFFFFFFFF};  // 2^63, below 0.5
  const std::uint64_t sign = random.next() & 1ull << 63;
  if (random.chance(40)) return sign | random.pick(kSpecial);
  // An exponent near 0 so that sums and products stay finite.
  const std::uint64_t exponent = 1023 - 40 + random.below(80);
  return sign | exponent << 52 | (random.next() >> 12 & ~0ull << random.below(52));
}

std::uint32_t float_value(Random& random) {
  static constexpr std::array<std::uint32_t, 12> kSpecial{
      0,          0x3F800000, 0x40000000, 0x7F800000, 0x7FC00000, 0x7F800001,
      0x7FC12345, 0x00000001, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x4F000000};
  const auto sign = static_cast<std::uint32_t>(random.next() & 1u << 31);
  if (random.chance(40)) return sign | random.pick(kSpecial);
  const std::uint32_t exponent = 127 - 20 + random.below(40);
  return sign | exponent << 23 | (random.below(1u << 23) & ~0u << random.below(23));
}

// The ten bytes of an x87 register.
void fill_extended(Random& random, std::uint8_t* out) {
  std::uint64_t significand = random.next() | 1ull << 63;
  std::uint16_t exponent = static_cast<std::uint16_t>(16383 - 70 + random.below(140));
  switch (random.below(12)) {
    case 0:
      significand = 0, exponent = 0;
      break;  // zero
    case 1:
      significand = 1ull << 63, exponent = 0x7FFF;
      break;  // infinity
    case 2:
      exponent = 0x7FFF;
      break;  // some NaN
    case 3:
      significand = random.next() >> 1, exponent = 0;
      break;  // denormal
    case 4:
      exponent = 0;
      break;  // pseudo-denormal
    case 5:
      significand = random.next() >> 1;
      break;  // unnormal: invalid
    case 6:
      exponent = static_cast<std::uint16_t>(random.next() & 0x7FFF);
      break;
    case 7:
      significand = 1ull << 63 | random.next() << 40;
      break;  // few digits
    case 8:
      significand = 1ull << 63, exponent = 16383;
      break;  // one
    default:
      break;
  }
  exponent = static_cast<std::uint16_t>(exponent | (random.next() & 0x8000));
  std::memcpy(out, &significand, sizeof(significand));
  std::memcpy(out + 8, &exponent, sizeof(exponent));
}

// Exceptions are mostly masked; the summary bits follow from the flags and masks.
void fill_x87_control(Random& random, soft::FxState& fx) {
  fx.control =
      random.chance(50) ? 0x37F : static_cast<std::uint16_t>((random.next() & 0xF00) | 0x7F);
  if (random.chance(15)) fx.control = static_cast<std::uint16_t>(fx.control & ~random.below(64));
  fx.control = static_cast<std::uint16_t>(fx.control | 0x40);
  fx.status = static_cast<std::uint16_t>(random.next() & 0x7F00);
  if (random.chance(30)) fx.status = static_cast<std::uint16_t>(fx.status | random.below(128));
  constexpr std::uint16_t kSummary = 0x8080;
  const bool pending = (fx.status & ~fx.control & 0x3F) != 0;
  fx.status = static_cast<std::uint16_t>(pending ? fx.status | kSummary : fx.status & ~kSummary);
  fx.abridged_tag = static_cast<std::uint8_t>(random.chance(50) ? 0xFF : random.next());
  if (random.chance(10)) fx.abridged_tag = 0;
}

}  // namespace

std::uint64_t packed_value(Random& random) {
  switch (random.below(4)) {
    case 0:
      return double_value(random);
    case 1:
      return std::uint64_t{float_value(random)} << 32 | float_value(random);
    default:
      return integer_value(random);
  }
}

std::uint64_t address_value(Random& random, std::uint32_t size) {
  const std::uint64_t offset = random.below(kPage) & (random.chance(50) ? ~15u : ~0u);
  const std::uint32_t kind = random.below(100);
  if (kind < 70) {
    static constexpr std::array<std::uint64_t, 3> kPages{1, 2, 5};
    return kSandbox + random.pick(kPages) * kPage + offset;
  }
  if (kind < 86) {  // across or just before the end of a page
    const std::uint64_t end = kSandbox + (1 + random.below(kLayout.size() - 2)) * kPage;
    return end - random.below(size + 1);
  }
  if (kind < 94) return kSandbox + 3 * kPage + offset;
  return kSandbox + random.below(kLayout.size() * kPage);
}

void fill_fx(Random& random, soft::FxState& fx) {
  fx = {};
  fill_x87_control(random, fx);
  for (auto& st : fx.st) {
    fill_extended(random, st.data());
    if (random.chance(20)) {  // left by MMX
      const std::uint64_t value = packed_value(random);
      std::memcpy(st.data(), &value, sizeof(value));
      st[8] = st[9] = 0xFF;
    }
  }
  for (auto& xmm : fx.xmm) {
    const std::array<std::uint64_t, 2> value{packed_value(random), packed_value(random)};
    std::memcpy(xmm.data(), value.data(), sizeof(value));
  }
  // Rounding, flush to zero, denormals are zeros, flags; masks mostly set.
  fx.mxcsr = 0x1F80 | (random.chance(50) ? 0 : static_cast<std::uint32_t>(random.next() & 0xE07F));
  if (random.chance(15)) fx.mxcsr &= ~(random.below(64) << 7);
}

}  // namespace sm::cpu_fuzz
