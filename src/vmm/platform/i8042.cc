#include "vmm/platform/i8042.h"

#include <algorithm>

#include "vmm/memory/addr_map.h"

namespace sm {

namespace {

constexpr std::uint64_t kCommandOffset = addr_map::kI8042CommandPort - addr_map::kI8042DataPort;
constexpr std::byte kOutputFull{0x01};
constexpr std::byte kNoData{0xFF};
constexpr std::byte kPulseReset{0xFE};

}  // namespace

void I8042::read(std::uint64_t offset, std::span<std::byte> out) {
  std::fill(out.begin(), out.end(), kNoData);
  if (!out.empty() && offset == kCommandOffset) out.front() = kOutputFull;
}

void I8042::write(std::uint64_t offset, std::span<const std::byte> in) {
  if (offset == kCommandOffset && in.size() == 1 && in.front() == kPulseReset) on_reset_();
}

}  // namespace sm
