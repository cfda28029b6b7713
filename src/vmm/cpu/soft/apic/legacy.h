// LegacyPorts: what is left of the PC's old chips. Any thread.
//
// Kernels look for an interrupt controller by writing its mask register and reading it back, and
// treat the numbering of interrupts differently when there is none; under KVM there is one. And the
// real-time clock must say "no update in progress", or whoever reads the date waits for it. All
// else of old (timer chip, speaker port, POST codes) is left to the bus, where reads give ones and
// writes vanish: with kvm-clock and a TSC-deadline timer kernels only switch the timer chip off.
// Spec: Intel 8259A and Motorola MC146818 data sheets.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

#include "vmm/cpu/soft/time/clock.h"

namespace sm::soft {

class LegacyPorts {
 public:
  explicit LegacyPorts(const Clock& clock) : clock_(clock) {}

  // True when the port is one of these chips'; a read has then filled `data`.
  bool access(std::uint16_t port, bool is_write, std::span<std::byte> data);

 private:
  // None of the two ever interrupts: no line leads to it.
  struct Pic {
    std::uint8_t mask = 0xFF;
    std::uint8_t words_to_come = 0;  // of an initialization
  };
  static void write_pic(Pic& pic, bool data_port, std::uint8_t value);
  std::uint8_t read_cmos() const;

  const Clock& clock_;
  std::mutex mutex_;  // guards what follows
  std::array<Pic, 2> pics_;
  std::uint8_t cmos_index_ = 0;
};

}  // namespace sm::soft
