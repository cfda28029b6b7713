// A mutator that keeps tar headers valid: without right checksums nothing behind the first header
// would ever be reached.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace sm::fuzz {

constexpr std::size_t kTarBlock = 512;
constexpr std::size_t kChecksumAt = 148;
constexpr std::size_t kMagicAt = 257;

// Writes the right checksum into every block from `offset` on that looks like a header.
inline void fix_checksums(std::uint8_t* data, std::size_t size, std::size_t offset) {
  for (; offset + kTarBlock <= size; offset += kTarBlock) {
    auto* block = data + offset;
    if (std::memcmp(block + kMagicAt, "ustar", 5) != 0) continue;
    std::memset(block + kChecksumAt, ' ', 8);
    unsigned sum = 0;
    for (std::size_t i = 0; i < kTarBlock; ++i) sum += block[i];
    char text[8] = {};
    std::snprintf(text, sizeof(text), "%06o", sum & 0777777U);
    std::memcpy(block + kChecksumAt, text, 7);
    block[kChecksumAt + 7] = ' ';
  }
}

inline std::size_t mutate_tar(std::uint8_t* data, std::size_t size, std::size_t max_size,
                              std::size_t offset) {
  const auto changed = LLVMFuzzerMutate(data, size, max_size);
  fix_checksums(data, changed, offset);
  return changed;
}

}  // namespace sm::fuzz
