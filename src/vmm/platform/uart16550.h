// A 16550A UART: the guest's console for people. Any number of vCPU threads, plus one that offers
// input. Spec: National Semiconductor PC16550D data sheet.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "vmm/bus/bus_device.h"
#include "vmm/irqchip/irq_line.h"
#include "vmm/platform/console_log.h"
#include "vmm/platform/uart_state.h"

namespace sm {

// Sending takes no time: the transmitter is always empty. Receiving honours RTS: input waits
// outside the FIFO until the driver has raised it, so nothing typed early is lost when a driver
// resets the chip. The line is pulled each time the interrupt condition becomes true.
class Uart16550 final : public BusDevice {
 public:
  static constexpr std::uint64_t kPorts = 8;
  static constexpr std::size_t kFifoSize = 16;
  static constexpr std::size_t kInputLimit = 4096;

  // `irq` and `sink` outlive the UART.
  Uart16550(IrqLine& irq, ConsoleSink& sink) : irq_(&irq), sink_(&sink) {}

  std::string_view name() const override { return "uart16550"; }
  void read(std::uint64_t offset, std::span<std::byte> out) override;
  void write(std::uint64_t offset, std::span<const std::byte> in) override;

  // Takes as many bytes as there is room for and returns their number. Any thread.
  std::size_t offer_input(std::span<const std::byte> bytes);
  // `callback` is called on a vCPU thread, no lock held, when there is room again after an
  // offer_input() that did not take everything. Set before the guest runs.
  void on_input_room(std::function<void()> callback) { input_room_ = std::move(callback); }

  UartState state() const;
  // Input that was accepted and not received yet is not part of a state. Before the guest runs.
  void set_state(const UartState& state);
  // Repeats an interrupt that may have been lost on the way. After everything is restored.
  void go_on();

 private:
  struct Registers {
    std::uint8_t interrupt_enable = 0;
    std::uint8_t fifo_control = 0;
    std::uint8_t line_control = 0x03;  // 8n1
    std::uint8_t modem_control = 0;
    std::uint8_t modem_delta = 0;
    std::uint8_t scratch = 0;
    std::uint8_t divisor_low = 0x0C;  // 9600 baud; has no effect
    std::uint8_t divisor_high = 0;
    bool overrun = false;
    bool transmit_pending = false;  // the "transmitter empty" interrupt has not been seen yet
  };
  // What an access leads to once the lock is released.
  struct Effects {
    std::optional<std::byte> output;
    bool interrupt = false;
    bool input_room = false;
  };

  std::uint8_t read_locked(std::uint64_t offset, Effects& effects);
  void write_locked(std::uint64_t offset, std::uint8_t value, Effects& effects);
  void transmit_locked(std::uint8_t value, Effects& effects);
  void write_interrupt_enable_locked(std::uint8_t value);
  void write_fifo_control_locked(std::uint8_t value, Effects& effects);
  void write_modem_control_locked(std::uint8_t value, Effects& effects);
  void receive_locked(Effects& effects);
  std::uint8_t take_received_locked(Effects& effects);
  std::uint8_t interrupt_cause_locked() const;
  std::uint8_t modem_lines_locked() const;
  std::size_t fifo_depth_locked() const;
  bool loopback_locked() const;
  bool input_room_locked();
  void apply(const Effects& effects);

  IrqLine* irq_;
  ConsoleSink* sink_;
  std::function<void()> input_room_;

  mutable std::mutex mutex_;
  Registers regs_;
  std::deque<std::byte> fifo_;   // received, at most kFifoSize
  std::deque<std::byte> input_;  // not yet received, at most kInputLimit
  bool input_refused_ = false;
};

}  // namespace sm
