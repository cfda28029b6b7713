// IoApic: 24 interrupt pins, each with an entry that says which vector goes to whom. Any thread.
// Spec: Intel 82093AA data sheet; version 0x11, so ends of level interrupts arrive as broadcasts.
#pragma once

#include <cstdint>
#include <mutex>

#include "vmm/cpu/platform_state.h"
#include "vmm/cpu/soft/apic/apic_bus.h"

namespace sm::soft {

inline constexpr std::uint32_t kIoApicPins = IoApicState::kPins;
inline constexpr std::uint64_t kIoApicWindow = 0x20;  // bytes of MMIO that answer

// What a snapshot holds, with its remote IRRs.
using sm::IoApicState;

class IoApic {
 public:
  // `bus` outlives it. Reset state: every pin masked.
  explicit IoApic(ApicBus& bus);

  // MMIO at `offset` from its base: index at 0, data at 0x10. Other accesses read as zero and
  // write nothing.
  std::uint32_t read_mmio(std::uint64_t offset, std::uint32_t size);
  void write_mmio(std::uint64_t offset, std::uint32_t size, std::uint32_t value);

  // One edge: of a pin the guest made level-triggered, a pulse. Pins that do not exist are ignored.
  void trigger(std::uint32_t pin);
  void set_level(std::uint32_t pin, bool high);
  // From a local APIC: a level-triggered interrupt of `vector` was ended. A pin whose line is still
  // high interrupts again.
  void end_of_interrupt(std::uint8_t vector);

  IoApicState state() const;
  void set_state(const IoApicState& state);

 private:
  class Outbox;

  std::uint32_t read_register(std::uint32_t index) const;
  void write_entry(std::uint32_t pin, bool high_half, std::uint32_t value, Outbox& outbox);
  void service_level(std::uint32_t pin, Outbox& outbox);
  void pull(std::uint32_t pin, bool rises, Outbox& outbox);
  void send(const Outbox& outbox);

  ApicBus& bus_;
  mutable std::mutex mutex_;  // guards what follows; no message is sent under it
  IoApicState registers_;
};

}  // namespace sm::soft
