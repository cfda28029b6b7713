// BusDevice: what sits behind a range of I/O ports or guest-physical addresses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace sm {

// A device never knows its address: it gets the offset into its range. Accesses are 1, 2, 4 or 8
// bytes and never cross the end of the range. Called on vCPU threads, several at once. It cannot
// fail towards the guest: nonsense is ignored on write and reads as zero.
class BusDevice {
 public:
  virtual ~BusDevice() = default;
  virtual std::string_view name() const = 0;
  virtual void read(std::uint64_t offset, std::span<std::byte> out) = 0;
  virtual void write(std::uint64_t offset, std::span<const std::byte> in) = 0;
};

}  // namespace sm
