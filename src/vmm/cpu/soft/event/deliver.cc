#include "vmm/cpu/soft/event/deliver.h"

#include "vmm/cpu/soft/event/debug.h"
#include "vmm/cpu/soft/event/handler.h"

namespace sm::soft {

namespace {

// Spec: SDM vol. 3, table 6-4.
enum class FaultClass : std::uint8_t { kBenign, kContributory, kPage, kDouble };

FaultClass class_of(std::uint8_t vector) {
  switch (vector) {
    case vector::kDivide:
    case vector::kInvalidTss:
    case vector::kSegmentNotPresent:
    case vector::kStack:
    case vector::kProtection:
      return FaultClass::kContributory;
    case vector::kPage:
      return FaultClass::kPage;
    case vector::kDoubleFault:
      return FaultClass::kDouble;
    default:
      return FaultClass::kBenign;
  }
}

// What becomes of `second`, raised while `first` was delivered. Spec: SDM vol. 3, table 6-5.
enum class Escalation : std::uint8_t { kDeliver, kDoubleFault, kShutdown };

Escalation escalate(FaultClass first, FaultClass second) {
  if (second == FaultClass::kBenign || first == FaultClass::kBenign) return Escalation::kDeliver;
  if (first == FaultClass::kDouble) return Escalation::kShutdown;
  if (first == FaultClass::kContributory && second == FaultClass::kPage) {
    return Escalation::kDeliver;
  }
  return Escalation::kDoubleFault;
}

Event event_of_fault(const Cpu& cpu) {
  return {.vector = cpu.fault.vector,
          .has_error_code = cpu.fault.has_error_code,
          .error_code = cpu.fault.error_code,
          .return_rip = cpu.rip,
          .resume = true};
}

Next shut_down(Cpu& cpu) {
  cpu.io.clear();
  cpu.shutdown = true;
  return Next::kAborted;
}

void note_page_fault(Cpu& cpu) {
  if (cpu.fault.vector == vector::kPage) cpu.cr2 = cpu.fault.address;
}

void entered(Cpu& cpu, const Event& event) {
  constexpr std::uint64_t kGeneralDetect = 1u << 13;
  if (event.vector == vector::kDebug) cpu.dr7 &= ~kGeneralDetect;
  cpu.interrupt_shadow = 0;
  cpu.halted = false;
}

Next deliver(Cpu& cpu, Event event) {
  // The event, a fault of its delivery, a double fault, and one more for two that are not related:
  // a chain of faults is never longer.
  constexpr int kLongestChain = 4;
  cpu.io.clear();
  for (int i = 0; i < kLongestChain; ++i) {
    if (enter_handler(cpu, event)) {
      entered(cpu, event);
      return Next::kJump;
    }
    if (cpu.io.waiting()) return shut_down(cpu);
    note_page_fault(cpu);
    switch (escalate(class_of(event.vector), class_of(cpu.fault.vector))) {
      case Escalation::kDeliver:
        break;
      case Escalation::kDoubleFault:
        raise(cpu, vector::kDoubleFault, 0);
        break;
      case Escalation::kShutdown:
        return shut_down(cpu);
    }
    event = event_of_fault(cpu);
  }
  return shut_down(cpu);
}

}  // namespace

Next deliver_fault(Cpu& cpu) {
  note_page_fault(cpu);
  return deliver(cpu, event_of_fault(cpu));
}

Next deliver_interrupt(Cpu& cpu, std::uint8_t vector) {
  return deliver(cpu, {.vector = vector, .return_rip = cpu.rip});
}

Next deliver_nmi(Cpu& cpu) {
  cpu.nmi_masked = true;
  return deliver(cpu, {.vector = vector::kNmi, .return_rip = cpu.rip});
}

Next deliver_debug(Cpu& cpu, std::uint32_t bits) {
  constexpr std::uint64_t kBreakpoints = 0xF;
  cpu.dr6 = (cpu.dr6 & ~kBreakpoints) | bits;
  return deliver(cpu, {.vector = vector::kDebug, .return_rip = cpu.rip});
}

Next deliver_int1(Cpu& cpu, std::uint64_t return_rip) {
  return deliver(cpu, {.vector = vector::kDebug, .return_rip = return_rip});
}

Next software_interrupt(Cpu& cpu, std::uint8_t vector, std::uint64_t return_rip) {
  const Event event{.vector = vector, .is_software = true, .return_rip = return_rip};
  if (!enter_handler(cpu, event)) return Next::kAborted;
  entered(cpu, event);
  return Next::kJump;
}

}  // namespace sm::soft
