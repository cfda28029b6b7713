// CRC-32C (Castagnoli): the checksum of everything a snapshot stores. It finds every change of up
// to 32 bits in a row; it is no protection against somebody who alters bytes on purpose. Spec: RFC
// 3720, appendix B.4. Pure functions, any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sm {

// Of `bytes`, or of what `before` is the sum of followed by `bytes`.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before = 0);

// The same without the processor's instruction: for hosts that lack it, and to test the other.
std::uint32_t crc32c_portable(std::span<const std::byte> bytes, std::uint32_t before = 0);

}  // namespace sm
