// Random bytes that are more often instructions of the larger opcode maps than plain random ones
// are. For tests.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>

namespace sm::soft {

class RandomInsn {
 public:
  explicit RandomInsn(std::uint64_t seed) : random_(seed) {}

  // Valid until the next call.
  std::span<const std::uint8_t> next() {
    for (std::size_t at = 0; at < bytes_.size(); at += sizeof(std::uint64_t)) {
      const std::uint64_t word = random_();
      std::memcpy(bytes_.data() + at, &word, sizeof(word));
    }
    const std::uint64_t choice = random_();
    if ((choice & 1) != 0) prepend(choice >> 1);
    return bytes_;
  }

 private:
  // Up to three prefixes, then perhaps an escape to another map.
  void prepend(std::uint64_t choice) {
    static constexpr std::array<std::uint8_t, 16> kPrefixes{0x66, 0x66, 0x66, 0xF2, 0xF2, 0xF3,
                                                            0xF3, 0x67, 0x26, 0x3E, 0x64, 0xF0,
                                                            0x40, 0x41, 0x48, 0x4F};
    std::size_t at = 0;
    const auto take = [&choice](unsigned bits) {
      const std::uint64_t taken = choice & ((1u << bits) - 1);
      choice >>= bits;
      return taken;
    };
    for (std::uint64_t count = take(2); count != 0; --count) bytes_[at++] = kPrefixes[take(4)];
    const std::uint64_t map = take(3);
    if (map < 4) return;
    bytes_[at++] = 0x0F;
    if (map == 6) bytes_[at++] = 0x38;
    if (map == 7) bytes_[at++] = 0x3A;
  }

  std::mt19937_64 random_;
  std::array<std::uint8_t, 24> bytes_{};
};

}  // namespace sm::soft
