#include "vmm/virtio/device.h"

#include <algorithm>

namespace sm {

void copy_config(std::span<const std::byte> config, std::uint32_t offset,
                 std::span<std::byte> out) {
  std::fill(out.begin(), out.end(), std::byte{0});
  if (offset >= config.size()) return;
  const auto there = config.subspan(offset, std::min(out.size(), config.size() - offset));
  std::copy(there.begin(), there.end(), out.begin());
}

}  // namespace sm
