// What stands around the APICs in tests: a clock that is set by hand, a timer queue and a sink that
// remember what they were told, and a machine of a few APICs. One thread.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "vmm/cpu/soft/apic/apic_bus.h"
#include "vmm/cpu/soft/apic/attention_sink.h"
#include "vmm/cpu/soft/apic/io_apic.h"
#include "vmm/cpu/soft/apic/local_apic.h"
#include "vmm/cpu/soft/time/clock.h"
#include "vmm/cpu/soft/time/timer_queue.h"

namespace sm::soft {

// The TSC has 2 ticks per nanosecond.
class FakeClock final : public Clock {
 public:
  FakeClock() : Clock(2'000'000) {}
  std::uint64_t ns() const override { return now_ns; }
  std::uint64_t tsc() const override { return now_ns * 2 + tsc_ahead; }
  std::uint64_t wall_ns() const override { return wall; }
  std::uint64_t now_ns = 1'000'000;
  std::uint64_t tsc_ahead = 0;
  std::uint64_t wall = 0;
};

class FakeTimers final : public TimerQueue {
 public:
  void arm(std::uint32_t vcpu, std::uint64_t deadline_ns) override {
    deadlines.at(vcpu) = deadline_ns;
    ++arms;
  }
  void cancel(std::uint32_t vcpu) override { deadlines.at(vcpu).reset(); }
  std::array<std::optional<std::uint64_t>, kMaxVcpus> deadlines;
  int arms = 0;
};

class FakeSink final : public AttentionSink {
 public:
  void post(std::uint32_t vcpu, std::uint32_t attention_bits) override {
    bits.at(vcpu) |= attention_bits;
  }
  // What was posted since the last call.
  std::uint32_t take(std::uint32_t vcpu) { return std::exchange(bits.at(vcpu), 0); }
  std::array<std::uint32_t, kMaxVcpus> bits{};
};

struct FakeMachine {
  explicit FakeMachine(std::uint32_t count = 1) : io_apic(bus) {
    bus.attach(io_apic);
    for (std::uint32_t i = 0; i < count; ++i) {
      apics.push_back(std::make_unique<LocalApic>(LocalApic::Config{
          .index = i, .sink = sink, .bus = bus, .clock = clock, .timers = timers}));
      bus.attach(*apics.back());
    }
  }
  // All APICs on: software-enabled, in x2APIC mode if wanted.
  void enable(bool x2apic) {
    for (auto& apic : apics) {
      const std::uint64_t mode = x2apic ? LocalApic::kBaseX2apic : 0;
      EXPECT_TRUE(apic->write_base(apic->base() | mode));
      write(*apic, 0x0F, 0x1FF);
    }
  }
  LocalApic& apic(std::uint32_t i = 0) { return *apics.at(i); }

  // A register by its number, in whichever mode the APIC is.
  static void write(LocalApic& apic, std::uint32_t number, std::uint32_t value) {
    if (apic.x2apic()) {
      EXPECT_TRUE(apic.write_x2apic(0x800 + number, value)) << number;
    } else {
      apic.write_mmio(number * 16, 4, value);
    }
  }
  static std::uint32_t read(LocalApic& apic, std::uint32_t number) {
    if (!apic.x2apic()) return apic.read_mmio(number * 16, 4);
    std::uint64_t value = 0;
    EXPECT_TRUE(apic.read_x2apic(0x800 + number, value)) << number;
    return static_cast<std::uint32_t>(value);
  }
  // A fixed interrupt from outside.
  void raise(std::uint32_t to, std::uint8_t vector, bool level = false) {
    bus.deliver({.vector = vector, .level = level, .destination = to});
  }
  // Takes the highest deliverable interrupt; -1 when there is none.
  int take(std::uint32_t i = 0) {
    const auto vector = apic(i).highest_deliverable();
    if (!vector) return -1;
    apic(i).acknowledge(*vector);
    return *vector;
  }
  void eoi(std::uint32_t i = 0) { write(apic(i), 0x0B, 0); }

  FakeClock clock;
  FakeTimers timers;
  FakeSink sink;
  ApicBus bus;
  IoApic io_apic;
  std::vector<std::unique_ptr<LocalApic>> apics;
};

}  // namespace sm::soft
