// UartState: a 16550 as a snapshot stores it. Plain data. Output has no state: sending takes no
// time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sm {

struct UartState {
  std::uint8_t interrupt_enable = 0;
  std::uint8_t fifo_control = 0;
  std::uint8_t line_control = 0x03;
  std::uint8_t modem_control = 0;
  std::uint8_t modem_delta = 0;
  std::uint8_t scratch = 0;
  std::uint8_t divisor_low = 0x0C;
  std::uint8_t divisor_high = 0;
  bool overrun = false;
  bool transmit_pending = false;
  std::vector<std::byte> fifo;  // received and not read yet, at most 16
  bool operator==(const UartState&) const = default;
};

}  // namespace sm
