#include "vmm/cpu/soft/apic/io_apic.h"

namespace sm::soft {

namespace {

constexpr std::uint64_t kSelectOffset = 0x00, kDataOffset = 0x10;
constexpr std::uint32_t kIdRegister = 0, kVersionRegister = 1, kArbitrationRegister = 2,
                        kFirstEntryRegister = 0x10;
constexpr std::uint32_t kVersionValue = 0x11 | (kIoApicPins - 1) << 16;
constexpr std::uint32_t kIdMask = 0x0F00'0000, kIdShift = 24;

// Bits of a redirection table entry. Spec: 82093AA, 3.2.4.
constexpr std::uint64_t kLogical = 1u << 11, kRemoteIrr = 1u << 14, kLevel = 1u << 15,
                        kMasked = 1u << 16;
constexpr std::uint64_t kReadOnly = 1u << 12 | kRemoteIrr;  // delivery status, remote IRR
constexpr std::uint64_t kDefined = 0xFF00'0000'0001'FFFF;

ApicMessage message_of(std::uint64_t entry) {
  return {.vector = static_cast<std::uint8_t>(entry),
          .mode = static_cast<DeliveryMode>((entry >> 8) & 7),
          .logical = (entry & kLogical) != 0,
          .level = (entry & kLevel) != 0,
          .destination = narrow_destination(static_cast<std::uint8_t>(entry >> 56))};
}

}  // namespace

// Messages that were decided under the lock, to be sent after it.
class IoApic::Outbox {
 public:
  void add(std::uint32_t pin, std::uint64_t entry) {
    letters_[count_++] = {pin, message_of(entry)};
  }
  // Returns the pins of level-triggered messages that nobody took, one bit each.
  std::uint32_t send(ApicBus& bus) const {
    std::uint32_t returned = 0;
    for (std::uint32_t i = 0; i < count_; ++i) {
      const Letter& letter = letters_[i];
      if (bus.deliver(letter.message) == 0 && letter.message.level) returned |= 1u << letter.pin;
    }
    return returned;
  }

 private:
  struct Letter {
    std::uint32_t pin;
    ApicMessage message;
  };
  std::array<Letter, kIoApicPins> letters_;  // at most one of each pin
  std::uint32_t count_ = 0;
};

IoApic::IoApic(ApicBus& bus) : bus_(bus) { registers_.redirection.fill(kMasked); }

// What nobody took is not being serviced either.
void IoApic::send(const Outbox& outbox) {
  const std::uint32_t returned = outbox.send(bus_);
  if (returned == 0) return;
  const std::lock_guard lock(mutex_);
  for (std::uint32_t pin = 0; pin < kIoApicPins; ++pin) {
    if ((returned >> pin & 1) != 0) registers_.redirection[pin] &= ~kRemoteIrr;
  }
}

std::uint32_t IoApic::read_mmio(std::uint64_t offset, std::uint32_t size) {
  const std::lock_guard lock(mutex_);
  if (offset == kSelectOffset) return registers_.select;
  if (offset == kDataOffset && size == 4) return read_register(registers_.select);
  return 0;
}

std::uint32_t IoApic::read_register(std::uint32_t index) const {
  switch (index) {
    case kIdRegister:
    case kArbitrationRegister:
      return registers_.id;
    case kVersionRegister:
      return kVersionValue;
    default:
      break;
  }
  const std::uint32_t half = index - kFirstEntryRegister;
  if (half >= kIoApicPins * 2) return 0;
  return static_cast<std::uint32_t>(registers_.redirection[half / 2] >> (half % 2 * 32));
}

void IoApic::write_mmio(std::uint64_t offset, std::uint32_t size, std::uint32_t value) {
  Outbox outbox;
  {
    const std::lock_guard lock(mutex_);
    if (offset == kSelectOffset) {
      registers_.select = value & 0xFF;
      return;
    }
    if (offset != kDataOffset || size != 4) return;
    if (registers_.select == kIdRegister) registers_.id = value & kIdMask;
    const std::uint32_t half = registers_.select - kFirstEntryRegister;
    if (half >= kIoApicPins * 2) return;
    write_entry(half / 2, half % 2 != 0, value, outbox);
  }
  send(outbox);
}

// An entry that becomes edge-triggered forgets a pending end of interrupt, as the chip does;
// kernels use that to end an interrupt by hand.
void IoApic::write_entry(std::uint32_t pin, bool high_half, std::uint32_t value, Outbox& outbox) {
  std::uint64_t& entry = registers_.redirection[pin];
  const std::uint64_t wide = std::uint64_t{value} << (high_half ? 32 : 0);
  const std::uint64_t half = high_half ? 0xFFFF'FFFF'0000'0000 : 0xFFFF'FFFF;
  const std::uint64_t writable = half & kDefined & ~kReadOnly;
  entry = (entry & ~writable) | (wide & writable);
  if ((entry & kLevel) == 0) entry &= ~kRemoteIrr;
  service_level(pin, outbox);
}

void IoApic::service_level(std::uint32_t pin, Outbox& outbox) {
  std::uint64_t& entry = registers_.redirection[pin];
  const bool ready = (entry & (kLevel | kMasked | kRemoteIrr)) == kLevel;
  if (!ready || (registers_.lines >> pin & 1) == 0) return;
  entry |= kRemoteIrr;
  outbox.add(pin, entry);
}

// An edge of a masked pin is lost, as on the chip.
void IoApic::pull(std::uint32_t pin, bool rises, Outbox& outbox) {
  const std::uint64_t entry = registers_.redirection[pin];
  if ((entry & kLevel) != 0) {
    service_level(pin, outbox);
  } else if (rises && (entry & kMasked) == 0) {
    outbox.add(pin, entry);
  }
}

// One step, so that of two who pull a shared line at the same time neither is lost.
void IoApic::trigger(std::uint32_t pin) {
  if (pin >= kIoApicPins) return;
  Outbox outbox;
  {
    const std::lock_guard lock(mutex_);
    const std::uint32_t before = registers_.lines;
    registers_.lines |= 1u << pin;
    pull(pin, true, outbox);
    registers_.lines = before;
  }
  send(outbox);
}

void IoApic::set_level(std::uint32_t pin, bool high) {
  if (pin >= kIoApicPins) return;
  Outbox outbox;
  {
    const std::lock_guard lock(mutex_);
    const std::uint32_t bit = 1u << pin;
    const bool rises = high && (registers_.lines & bit) == 0;
    registers_.lines = high ? registers_.lines | bit : registers_.lines & ~bit;
    pull(pin, rises, outbox);
  }
  send(outbox);
}

void IoApic::end_of_interrupt(std::uint8_t vector) {
  Outbox outbox;
  {
    const std::lock_guard lock(mutex_);
    for (std::uint32_t pin = 0; pin < kIoApicPins; ++pin) {
      std::uint64_t& entry = registers_.redirection[pin];
      if ((entry & kRemoteIrr) == 0 || static_cast<std::uint8_t>(entry) != vector) continue;
      entry &= ~kRemoteIrr;
      service_level(pin, outbox);
    }
  }
  send(outbox);
}

IoApicState IoApic::state() const {
  const std::lock_guard lock(mutex_);
  IoApicState state = registers_;
  state.id >>= kIdShift;
  return state;
}

void IoApic::set_state(const IoApicState& state) {
  const std::lock_guard lock(mutex_);
  registers_ = state;
  registers_.id = (state.id << kIdShift) & kIdMask;
  registers_.select &= 0xFF;
  registers_.lines &= (1u << kIoApicPins) - 1;
  for (std::uint64_t& entry : registers_.redirection) entry &= kDefined;
}

}  // namespace sm::soft
