// PlatformState: what an engine holds of a machine besides its vCPUs: the IOAPIC and the clock.
// Plain data, the same for every engine; together with CpuState it is what a snapshot stores of the
// CPU side.
#pragma once

#include <array>
#include <cstdint>

namespace sm {

// Spec: Intel 82093AA data sheet.
struct IoApicState {
  static constexpr std::uint32_t kPins = 24;

  std::uint32_t id = 0;                            // 0 ... 15
  std::uint32_t select = 0;                        // the index register
  std::uint32_t lines = 0;                         // levels of the pins, one bit each
  std::array<std::uint64_t, kPins> redirection{};  // with remote IRR (bit 14)
  bool operator==(const IoApicState&) const = default;
};

struct PlatformState {
  IoApicState io_apic;
  // kvm-clock: nanoseconds of guest time since the machine's first start, without the time that it
  // spent as a snapshot.
  std::uint64_t clock_ns = 0;
  bool operator==(const PlatformState&) const = default;
};

}  // namespace sm
