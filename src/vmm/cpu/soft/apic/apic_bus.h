// ApicBus: carries interrupt messages from whoever sends them (an IOAPIC pin, another vCPU, a
// paravirtual call) to the local APICs they name, and ends of level-triggered interrupts back to
// the IOAPIC. Any thread; LocalApics attach before the first vCPU runs.
// Spec: SDM vol. 3, 10.6.2 (destinations), 10.12.10 (x2APIC destinations).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "vmm/cpu/engine.h"

namespace sm::soft {

class IoApic;
class LocalApic;

// The encoding of ICR and redirection table entries.
enum class DeliveryMode : std::uint8_t {
  kFixed = 0,
  kLowestPriority = 1,
  kSmi = 2,
  kNmi = 4,
  kInit = 5,
  kStartup = 6,
  kExtInt = 7,
};

inline constexpr std::uint32_t kBroadcast = ~0u;  // as a physical destination: all APICs

struct ApicMessage {
  std::uint8_t vector = 0;
  DeliveryMode mode = DeliveryMode::kFixed;
  bool logical = false;
  bool level = false;
  // An APIC id, a logical id as the receiver's mode defines it, or kBroadcast. Senders with 8-bit
  // destinations use narrow_destination().
  std::uint32_t destination = 0;
};

// An 8-bit destination; 0xFF means everybody in both destination modes.
constexpr std::uint32_t narrow_destination(std::uint8_t destination) {
  return destination == 0xFF ? kBroadcast : destination;
}

class ApicBus {
 public:
  // While no vCPU runs.
  void attach(LocalApic& apic);
  void detach(LocalApic& apic);
  void attach(IoApic& io_apic) { io_apic_.store(&io_apic, std::memory_order_release); }

  // Delivers to all APICs that the destination names; of kLowestPriority to one of them. Returns
  // the number of APICs that accepted.
  std::uint32_t deliver(const ApicMessage& message);
  // The shorthands of the ICR.
  void deliver_to_all(const ApicMessage& message, const LocalApic* except);

  // A level-triggered interrupt was ended: the broadcast that the IOAPIC waits for.
  void end_of_interrupt(std::uint8_t vector);

 private:
  LocalApic* at(std::uint32_t index) const;
  LocalApic* lowest_priority(const ApicMessage& message);

  std::array<std::atomic<LocalApic*>, kMaxVcpus> apics_{};  // by vCPU index
  std::atomic<IoApic*> io_apic_{nullptr};
  std::atomic<std::uint32_t> turn_{0};  // whom a tie of equal priorities favours
};

}  // namespace sm::soft
