// The keyboard controller reduced to its reset line. Any number of vCPU threads.
#pragma once

#include <functional>

#include "vmm/bus/bus_device.h"

namespace sm {

// Sits at ports 0x60..0x64. No keyboard, no mouse: the status port always says that a byte waits,
// which no controller does, so a driver that probes gives up at once instead of waiting for
// answers; and that commands are taken, so the reset command is sent at once.
class I8042 final : public BusDevice {
 public:
  // `on_reset` is called on a vCPU thread when the guest asks for a reset; it returns soon.
  explicit I8042(std::function<void()> on_reset) : on_reset_(std::move(on_reset)) {}

  std::string_view name() const override { return "i8042"; }
  void read(std::uint64_t offset, std::span<std::byte> out) override;
  void write(std::uint64_t offset, std::span<const std::byte> in) override;

 private:
  std::function<void()> on_reset_;
};

}  // namespace sm
