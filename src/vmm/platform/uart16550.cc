#include "vmm/platform/uart16550.h"

#include <algorithm>
#include <utility>

namespace sm {

namespace {

// Register offsets.
constexpr std::uint64_t kData = 0;  // RBR/THR, divisor low when DLAB is set
constexpr std::uint64_t kInterruptEnable = 1;
constexpr std::uint64_t kInterruptIdent = 2;  // read: IIR, write: FCR
constexpr std::uint64_t kLineControl = 3;
constexpr std::uint64_t kModemControl = 4;
constexpr std::uint64_t kLineStatus = 5;
constexpr std::uint64_t kModemStatus = 6;
constexpr std::uint64_t kScratch = 7;

constexpr std::uint8_t kIerReceived = 0x01;
constexpr std::uint8_t kIerTransmit = 0x02;
constexpr std::uint8_t kIerLineStatus = 0x04;
constexpr std::uint8_t kIerModemStatus = 0x08;

constexpr std::uint8_t kIirNone = 0x01;
constexpr std::uint8_t kIirModemStatus = 0x00;
constexpr std::uint8_t kIirTransmit = 0x02;
constexpr std::uint8_t kIirReceived = 0x04;
constexpr std::uint8_t kIirLineStatus = 0x06;
constexpr std::uint8_t kIirFifosEnabled = 0xC0;

constexpr std::uint8_t kFcrEnable = 0x01;
constexpr std::uint8_t kFcrClearReceive = 0x02;
constexpr std::uint8_t kFcrStored = 0xC9;  // the clear bits fall back by themselves

constexpr std::uint8_t kLcrDivisorLatch = 0x80;

constexpr std::uint8_t kMcrDtr = 0x01;
constexpr std::uint8_t kMcrRts = 0x02;
constexpr std::uint8_t kMcrOut1 = 0x04;
constexpr std::uint8_t kMcrOut2 = 0x08;
constexpr std::uint8_t kMcrLoop = 0x10;

constexpr std::uint8_t kLsrDataReady = 0x01;
constexpr std::uint8_t kLsrOverrun = 0x02;
constexpr std::uint8_t kLsrTransmitterEmpty = 0x60;  // THRE and TEMT

constexpr std::uint8_t kMsrCts = 0x10;
constexpr std::uint8_t kMsrDsr = 0x20;
constexpr std::uint8_t kMsrRing = 0x40;
constexpr std::uint8_t kMsrCarrier = 0x80;
constexpr std::uint8_t kMsrRingEnded = 0x04;  // a delta bit: only the falling edge counts

}  // namespace

void Uart16550::read(std::uint64_t offset, std::span<std::byte> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Effects effects;
    {
      std::lock_guard lock(mutex_);
      const bool before = interrupt_cause_locked() != kIirNone;
      out[i] = static_cast<std::byte>(read_locked(offset + i, effects));
      effects.interrupt |= !before && interrupt_cause_locked() != kIirNone;
      effects.input_room = input_room_locked();
    }
    apply(effects);
  }
}

void Uart16550::write(std::uint64_t offset, std::span<const std::byte> in) {
  for (std::size_t i = 0; i < in.size(); ++i) {
    Effects effects;
    {
      std::lock_guard lock(mutex_);
      const bool before = interrupt_cause_locked() != kIirNone;
      write_locked(offset + i, std::to_integer<std::uint8_t>(in[i]), effects);
      effects.interrupt |= !before && interrupt_cause_locked() != kIirNone;
      effects.input_room = input_room_locked();
    }
    apply(effects);
  }
}

// Calls out without the lock. Two vCPUs that print at once may be interleaved, as on real wires.
void Uart16550::apply(const Effects& effects) {
  if (effects.output) sink_->console_output({&*effects.output, 1});
  if (effects.interrupt) irq_->trigger();
  if (effects.input_room && input_room_) input_room_();
}

std::size_t Uart16550::offer_input(std::span<const std::byte> bytes) {
  Effects effects;
  std::size_t taken = 0;
  {
    std::lock_guard lock(mutex_);
    const bool before = interrupt_cause_locked() != kIirNone;
    taken = std::min(bytes.size(), kInputLimit - input_.size());
    input_.insert(input_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
    if (taken < bytes.size()) input_refused_ = true;
    receive_locked(effects);
    effects.interrupt |= !before && interrupt_cause_locked() != kIirNone;
  }
  apply(effects);
  return taken;
}

std::uint8_t Uart16550::read_locked(std::uint64_t offset, Effects& effects) {
  const bool latch = (regs_.line_control & kLcrDivisorLatch) != 0;
  switch (offset) {
    case kData:
      return latch ? regs_.divisor_low : take_received_locked(effects);
    case kInterruptEnable:
      return latch ? regs_.divisor_high : regs_.interrupt_enable;
    case kInterruptIdent: {
      const std::uint8_t cause = interrupt_cause_locked();
      // Reading it is what acknowledges this cause, and only this.
      if (cause == kIirTransmit) regs_.transmit_pending = false;
      const bool fifos = (regs_.fifo_control & kFcrEnable) != 0;
      return static_cast<std::uint8_t>(cause | (fifos ? kIirFifosEnabled : 0));
    }
    case kLineControl:
      return regs_.line_control;
    case kModemControl:
      return regs_.modem_control;
    case kLineStatus: {
      std::uint8_t status = kLsrTransmitterEmpty;
      if (!fifo_.empty()) status |= kLsrDataReady;
      if (std::exchange(regs_.overrun, false)) status |= kLsrOverrun;
      return status;
    }
    case kModemStatus:
      return static_cast<std::uint8_t>(modem_lines_locked() | std::exchange(regs_.modem_delta, 0));
    case kScratch:
      return regs_.scratch;
    default:
      return 0;
  }
}

void Uart16550::write_locked(std::uint64_t offset, std::uint8_t value, Effects& effects) {
  const bool latch = (regs_.line_control & kLcrDivisorLatch) != 0;
  switch (offset) {
    case kData:
      if (latch) {
        regs_.divisor_low = value;
      } else {
        transmit_locked(value, effects);
      }
      return;
    case kInterruptEnable:
      if (latch) {
        regs_.divisor_high = value;
      } else {
        write_interrupt_enable_locked(value);
      }
      return;
    case kInterruptIdent:
      return write_fifo_control_locked(value, effects);
    case kLineControl:
      regs_.line_control = value;
      return;
    case kModemControl:
      return write_modem_control_locked(value, effects);
    case kScratch:
      regs_.scratch = value;
      return;
    default:
      return;  // the status registers are read-only
  }
}

void Uart16550::transmit_locked(std::uint8_t value, Effects& effects) {
  // Sent at once, so the transmitter is empty again.
  regs_.transmit_pending = true;
  if (!loopback_locked()) {
    effects.output = static_cast<std::byte>(value);
  } else if (fifo_.size() < fifo_depth_locked()) {
    fifo_.push_back(static_cast<std::byte>(value));
  } else {
    regs_.overrun = true;
  }
}

void Uart16550::write_interrupt_enable_locked(std::uint8_t value) {
  const auto enabled = static_cast<std::uint8_t>(value & 0x0F);
  // Enabling the transmit interrupt while the transmitter is empty raises it.
  if ((enabled & ~regs_.interrupt_enable & kIerTransmit) != 0) regs_.transmit_pending = true;
  regs_.interrupt_enable = enabled;
}

void Uart16550::write_fifo_control_locked(std::uint8_t value, Effects& effects) {
  const bool toggled = ((value ^ regs_.fifo_control) & kFcrEnable) != 0;
  if (toggled || (value & kFcrClearReceive) != 0) fifo_.clear();
  // Without the enable bit the others are not programmed.
  regs_.fifo_control = (value & kFcrEnable) != 0 ? value & kFcrStored : 0;
  receive_locked(effects);
}

void Uart16550::write_modem_control_locked(std::uint8_t value, Effects& effects) {
  const std::uint8_t before = modem_lines_locked();
  regs_.modem_control = value & 0x1F;
  const std::uint8_t after = modem_lines_locked();
  auto delta = static_cast<std::uint8_t>((before ^ after) >> 4);
  // Spec: 8.8: TERI is set by the end of a ring only.
  if ((after & kMsrRing) != 0) delta &= static_cast<std::uint8_t>(~kMsrRingEnded);
  regs_.modem_delta |= delta;
  receive_locked(effects);
}

// Moves waiting input into the empty FIFO while the driver says it is ready. Each such burst pulls
// the line, also when an earlier one is still being handled: a driver that stops reading after some
// amount would otherwise never hear of the rest.
void Uart16550::receive_locked(Effects& effects) {
  if (loopback_locked() || (regs_.modem_control & kMcrRts) == 0) return;
  if (!fifo_.empty() || input_.empty()) return;
  effects.interrupt |= (regs_.interrupt_enable & kIerReceived) != 0;
  while (!input_.empty() && fifo_.size() < fifo_depth_locked()) {
    fifo_.push_back(input_.front());
    input_.pop_front();
  }
}

std::uint8_t Uart16550::take_received_locked(Effects& effects) {
  if (fifo_.empty()) return 0;
  const auto value = std::to_integer<std::uint8_t>(fifo_.front());
  fifo_.pop_front();
  receive_locked(effects);
  return value;
}

// The highest enabled cause, as IIR shows it. Every byte received counts at once: with nobody on
// the line to send more, waiting for a trigger level would only delay it.
std::uint8_t Uart16550::interrupt_cause_locked() const {
  const std::uint8_t enabled = regs_.interrupt_enable;
  if ((enabled & kIerLineStatus) != 0 && regs_.overrun) return kIirLineStatus;
  if ((enabled & kIerReceived) != 0 && !fifo_.empty()) return kIirReceived;
  if ((enabled & kIerTransmit) != 0 && regs_.transmit_pending) return kIirTransmit;
  if ((enabled & kIerModemStatus) != 0 && regs_.modem_delta != 0) return kIirModemStatus;
  return kIirNone;
}

// A terminal that is always there; in loopback the chip's own outputs.
std::uint8_t Uart16550::modem_lines_locked() const {
  if (!loopback_locked()) return kMsrCts | kMsrDsr | kMsrCarrier;
  const std::uint8_t mcr = regs_.modem_control;
  std::uint8_t lines = 0;
  if ((mcr & kMcrRts) != 0) lines |= kMsrCts;
  if ((mcr & kMcrDtr) != 0) lines |= kMsrDsr;
  if ((mcr & kMcrOut1) != 0) lines |= kMsrRing;
  if ((mcr & kMcrOut2) != 0) lines |= kMsrCarrier;
  return lines;
}

std::size_t Uart16550::fifo_depth_locked() const {
  return (regs_.fifo_control & kFcrEnable) != 0 ? kFifoSize : 1;
}

bool Uart16550::loopback_locked() const { return (regs_.modem_control & kMcrLoop) != 0; }

// True once after input was refused and half of the queue is free again.
bool Uart16550::input_room_locked() {
  if (!input_refused_ || input_.size() > kInputLimit / 2) return false;
  input_refused_ = false;
  return true;
}

UartState Uart16550::state() const {
  const std::lock_guard lock(mutex_);
  return {.interrupt_enable = regs_.interrupt_enable,
          .fifo_control = regs_.fifo_control,
          .line_control = regs_.line_control,
          .modem_control = regs_.modem_control,
          .modem_delta = regs_.modem_delta,
          .scratch = regs_.scratch,
          .divisor_low = regs_.divisor_low,
          .divisor_high = regs_.divisor_high,
          .overrun = regs_.overrun,
          .transmit_pending = regs_.transmit_pending,
          .fifo = {fifo_.begin(), fifo_.end()}};
}

void Uart16550::set_state(const UartState& state) {
  const std::lock_guard lock(mutex_);
  regs_ = {.interrupt_enable = static_cast<std::uint8_t>(state.interrupt_enable & 0x0F),
           .fifo_control = state.fifo_control,
           .line_control = state.line_control,
           .modem_control = state.modem_control,
           .modem_delta = state.modem_delta,
           .scratch = state.scratch,
           .divisor_low = state.divisor_low,
           .divisor_high = state.divisor_high,
           .overrun = state.overrun,
           .transmit_pending = state.transmit_pending};
  const std::size_t count = std::min(state.fifo.size(), kFifoSize);
  fifo_.assign(state.fifo.begin(), state.fifo.begin() + static_cast<std::ptrdiff_t>(count));
}

void Uart16550::go_on() {
  bool pending = false;
  {
    const std::lock_guard lock(mutex_);
    pending = interrupt_cause_locked() != kIirNone;
  }
  if (pending) irq_->trigger();
}

}  // namespace sm
