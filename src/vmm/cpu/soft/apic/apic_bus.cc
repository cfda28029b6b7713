#include "vmm/cpu/soft/apic/apic_bus.h"

#include "vmm/cpu/soft/apic/io_apic.h"
#include "vmm/cpu/soft/apic/local_apic.h"

namespace sm::soft {

void ApicBus::attach(LocalApic& apic) {
  if (apic.id() < apics_.size()) apics_[apic.id()].store(&apic, std::memory_order_release);
}

void ApicBus::detach(LocalApic& apic) {
  if (apic.id() < apics_.size()) apics_[apic.id()].store(nullptr, std::memory_order_release);
}

LocalApic* ApicBus::at(std::uint32_t index) const {
  return apics_[index].load(std::memory_order_acquire);
}

std::uint32_t ApicBus::deliver(const ApicMessage& message) {
  if (message.mode == DeliveryMode::kLowestPriority) {
    LocalApic* chosen = lowest_priority(message);
    return chosen != nullptr && chosen->accept(message) ? 1 : 0;
  }
  std::uint32_t accepted = 0;
  for (std::uint32_t i = 0; i < apics_.size(); ++i) {
    LocalApic* apic = at(i);
    if (apic != nullptr && apic->matches(message) && apic->accept(message)) ++accepted;
  }
  return accepted;
}

void ApicBus::deliver_to_all(const ApicMessage& message, const LocalApic* except) {
  for (std::uint32_t i = 0; i < apics_.size(); ++i) {
    LocalApic* apic = at(i);
    if (apic != nullptr && apic != except) apic->accept(message);
  }
}

// Spec: SDM vol. 3, 10.6.2.4. Among equals the turn goes round.
LocalApic* ApicBus::lowest_priority(const ApicMessage& message) {
  const std::uint32_t first = turn_.fetch_add(1, std::memory_order_relaxed);
  LocalApic* best = nullptr;
  std::uint32_t best_priority = 0;
  for (std::uint32_t i = 0; i < apics_.size(); ++i) {
    LocalApic* apic = at((first + i) % kMaxVcpus);
    if (apic == nullptr || !apic->takes_interrupts() || !apic->matches(message)) continue;
    const std::uint32_t priority = apic->processor_priority();
    if (best != nullptr && priority >= best_priority) continue;
    best = apic;
    best_priority = priority;
  }
  return best;
}

void ApicBus::end_of_interrupt(std::uint8_t vector) {
  IoApic* io_apic = io_apic_.load(std::memory_order_acquire);
  if (io_apic != nullptr) io_apic->end_of_interrupt(vector);
}

}  // namespace sm::soft
