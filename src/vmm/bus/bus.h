// Bus: address -> device. Filled before the vCPUs start, immutable afterwards, so no lock is
// needed.
#pragma once

#include <cstdint>
#include <map>

#include "base/result.h"
#include "vmm/bus/bus_device.h"

namespace sm {

class Bus {
 public:
  // Puts `device` (which must outlive the bus) at [base, base+length). Refuses an empty or wrapping
  // range and one that overlaps a range already there.
  Status add(std::uint64_t base, std::uint64_t length, BusDevice& device);

  // Dispatches one access. Nothing there: reads give all ones, as on real buses; writes vanish.
  // An access that starts in a range and leaves it is treated the same.
  void read(std::uint64_t address, std::span<std::byte> out) const;
  void write(std::uint64_t address, std::span<const std::byte> in) const;

 private:
  struct Range {
    std::uint64_t length;
    BusDevice* device;
  };
  struct Hit {
    BusDevice* device;
    std::uint64_t offset;
  };
  Hit find(std::uint64_t address, std::uint64_t length) const;

  std::map<std::uint64_t, Range> ranges_;
};

}  // namespace sm
