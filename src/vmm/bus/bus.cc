#include "vmm/bus/bus.h"

#include <algorithm>

#include "base/checked.h"

namespace sm {

Status Bus::add(std::uint64_t base, std::uint64_t length, BusDevice& device) {
  const auto end = checked_add(base, length);
  if (length == 0 || !end) {
    return fail(Code::kInternal, std::string(device.name()) + ": empty or wrapping bus range");
  }
  const auto next = ranges_.lower_bound(base);
  const bool overlaps_next = next != ranges_.end() && next->first < *end;
  const bool overlaps_previous =
      next != ranges_.begin() && std::prev(next)->first + std::prev(next)->second.length > base;
  if (overlaps_next || overlaps_previous) {
    return fail(Code::kInternal, std::string(device.name()) + ": bus range overlaps another");
  }
  ranges_.emplace(base, Range{length, &device});
  return {};
}

Bus::Hit Bus::find(std::uint64_t address, std::uint64_t length) const {
  auto it = ranges_.upper_bound(address);
  if (it == ranges_.begin()) return {nullptr, 0};
  --it;
  const std::uint64_t offset = address - it->first;
  if (!fits(offset, length, it->second.length)) return {nullptr, 0};
  return {it->second.device, offset};
}

void Bus::read(std::uint64_t address, std::span<std::byte> out) const {
  const Hit hit = find(address, out.size());
  if (hit.device == nullptr) {
    std::fill(out.begin(), out.end(), std::byte{0xff});
    return;
  }
  hit.device->read(hit.offset, out);
}

void Bus::write(std::uint64_t address, std::span<const std::byte> in) const {
  const Hit hit = find(address, in.size());
  if (hit.device != nullptr) hit.device->write(hit.offset, in);
}

}  // namespace sm
