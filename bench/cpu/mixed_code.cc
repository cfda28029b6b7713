#include "bench/cpu/mixed_code.h"

#include "tests/cpu/random.h"

namespace sm::cpu_bench {

namespace {

using Bytes = std::vector<std::uint8_t>;

void put(Bytes& to, std::initializer_list<std::uint32_t> bytes) {
  for (const std::uint32_t byte : bytes) to.push_back(static_cast<std::uint8_t>(byte));
}

// ModRM of two of the six low registers.
std::uint32_t pair(cpu_fuzz::Random& random) {
  static constexpr std::array<std::uint32_t, 5> kRegisters{0, 1, 2, 6, 7};
  return 0xC0 | random.pick(kRegisters) << 3 | random.pick(kRegisters);
}
// ModRM of [rbx + disp8] and one of them.
std::uint32_t memory(cpu_fuzz::Random& random) {
  static constexpr std::array<std::uint32_t, 5> kRegisters{0, 1, 2, 6, 7};
  return 0x43 | random.pick(kRegisters) << 3;
}

// About a third touch memory and a sixth are branches, as in kernels.
void put_instruction(Bytes& to, cpu_fuzz::Random& random) {
  static constexpr std::array<std::uint32_t, 7> kArithmetic{0x01, 0x09, 0x21, 0x29,
                                                            0x31, 0x39, 0x85};
  const std::uint32_t wide = random.chance(60) ? 0x48 : 0x40;
  const std::uint32_t disp = random.below(16) * 8;
  const std::uint32_t kind = random.below(100);
  if (kind < 20) {
    put(to, {wide, random.pick(kArithmetic), pair(random)});
  } else if (kind < 35) {
    put(to, {wide, 0x89, pair(random)});
  } else if (kind < 55) {
    put(to, {wide, 0x8B, memory(random), disp});
  } else if (kind < 65) {
    put(to, {wide, 0x89, memory(random), disp});
  } else if (kind < 70) {
    put(to, {wide, 0x83, pair(random) & 0xC7, random.below(128)});
  } else if (kind < 75) {
    put(to, {wide, 0x8D, memory(random), disp});
  } else if (kind < 80) {
    put(to, {wide, 0xC1, 0xE0 | (pair(random) & 7), 1 + random.below(30)});
  } else if (kind < 84) {
    put(to, {0x0F, 0xB6, memory(random), disp});
  } else if (kind < 88) {
    put(to, {0x50 | (pair(random) & 7), 0x58 | (pair(random) & 7)});
  } else {
    // Compares and jumps over one instruction, or not.
    put(to, {wide, 0x39, pair(random), 0x70 | random.below(16), 3, wide, 0x01, pair(random)});
  }
}

}  // namespace

Bytes mixed_code(std::size_t instructions, std::uint64_t seed) {
  cpu_fuzz::Random random(seed);
  Bytes bytes;
  for (std::size_t i = 0; i < instructions; ++i) put_instruction(bytes, random);
  bytes.push_back(0xC3);
  return bytes;
}

}  // namespace sm::cpu_bench
