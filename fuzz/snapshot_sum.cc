// memory.sum from a hostile disk. The sum is made right before half of the inputs are read.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/crc32c.h"
#include "vmm/snapshot/memory_sum.h"

namespace {

constexpr std::size_t kHeader = 48, kMemoryBytes = 16, kCrc = 44;

void repair(std::vector<std::byte>& bytes) {
  if (bytes.size() < kHeader) return;
  const std::span<const std::byte> all(bytes);
  const std::uint32_t crc = sm::crc32c(all.subspan(kHeader), sm::crc32c(all.first(kCrc)));
  std::memcpy(bytes.data() + kCrc, &crc, sizeof(crc));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto input = std::as_bytes(std::span(data, size));
  std::vector<std::byte> bytes(input.begin() + 1, input.end());
  if ((data[0] & 1) != 0) repair(bytes);
  std::uint64_t memory_bytes = 1 << 20;
  if (bytes.size() >= kHeader) {
    std::memcpy(&memory_bytes, bytes.data() + kMemoryBytes, sizeof(memory_bytes));
  }
  const auto sum = sm::decode_memory_sum(bytes, memory_bytes);
  if (!sum) return 0;
  SM_CHECK(bytes.size() <= sm::max_memory_sum_bytes(memory_bytes));
  SM_CHECK(sm::check_pages(*sum).has_value());
  SM_CHECK(sm::encode_memory_sum(*sum) == bytes);
  return 0;
}
