#include "vmm/cpu/soft/event/handler.h"

#include "vmm/cpu/soft/event/code_target.h"
#include "vmm/cpu/soft/event/flags.h"
#include "vmm/cpu/soft/event/inner_stack.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/stack.h"

namespace sm::soft {

namespace {

constexpr std::uint64_t kFrameAlignment = 16;  // of 64-bit handlers' stacks

std::uint64_t selector_of(const Cpu& cpu, Segment segment) {
  return cpu.segment[static_cast<std::size_t>(segment)].selector;
}

std::uint64_t frame_flags(const Cpu& cpu, const Event& event) {
  return cpu.rflags() | (event.resume ? eflags::kRf : 0u);
}

// The error code that names an entry of the IDT.
std::uint32_t gate_error(const Event& event) {
  constexpr std::uint32_t kIdt = 2;
  return event.vector * 8u | kIdt | event.ext();
}

void clear_flags(Cpu& cpu, std::uint32_t flags) {
  load_rflags(cpu, cpu.rflags() & ~std::uint64_t{flags});
}

// What a gate's type means. Task gates are not here.
struct GateKind {
  std::uint32_t value_size;
  bool clears_if;
};
bool gate_kind(const Cpu& cpu, Attributes attributes, GateKind& kind) {
  if (!attributes.is_system()) return false;
  const std::uint32_t wide = cpu.long_mode() ? 8 : 4;
  switch (attributes.system_type()) {
    case SystemType::kInterruptGate:
      kind = {wide, true};
      return true;
    case SystemType::kTrapGate:
      kind = {wide, false};
      return true;
    case SystemType::kInterruptGate16:
      kind = {2, true};
      return !cpu.long_mode();
    case SystemType::kTrapGate16:
      kind = {2, false};
      return !cpu.long_mode();
    default:
      return false;
  }
}

bool read_gate(Cpu& cpu, const Event& event, Descriptor& gate, GateKind& kind) {
  const std::uint32_t size = cpu.long_mode() ? 16 : 8;
  const std::uint32_t offset = event.vector * size;
  if (offset + size - 1 > cpu.idt.limit) {
    return refuse(cpu, vector::kProtection, gate_error(event));
  }
  if (!load_table(cpu, cpu.idt.base + offset, &gate, size)) return false;
  const Attributes attributes = gate.attributes();
  if (!gate_kind(cpu, attributes, kind) || (event.is_software && attributes.dpl() < cpu.cpl)) {
    return refuse(cpu, vector::kProtection, gate_error(event));
  }
  return attributes.present() || refuse(cpu, vector::kSegmentNotPresent, gate_error(event));
}

// The handler's stack. In long mode it is aligned, whether it is another one or not.
bool choose_stack(Cpu& cpu, const Event& event, const CodeTarget& target, std::uint8_t ist,
                  StackTarget& stack) {
  stack = current_stack(cpu);
  stack.error_code = event.ext();
  if (target.cpl < cpu.cpl && (ist == 0 || !cpu.long_mode())) {
    if (!read_inner_stack(cpu, target.cpl, event.ext(), stack)) return false;
  } else if (cpu.long_mode()) {
    stack.is_64bit = true;
    stack.cpl = target.cpl;
    if (target.cpl < cpu.cpl) stack.ss = null_register(target.cpl, target.cpl);
    if (ist != 0 && !read_interrupt_stack(cpu, ist, event.ext(), stack)) return false;
  }
  if (cpu.long_mode()) stack.pointer &= ~(kFrameAlignment - 1);
  return true;
}

// Spec: SDM vol. 3, 6.12.1 and 6.14.2.
bool enter_protected(Cpu& cpu, const Event& event) {
  Descriptor gate;
  GateKind kind{};
  CodeTarget target;
  StackTarget stack;
  if (!read_gate(cpu, event, gate, kind) ||
      !check_gate_target(cpu, gate.gate_selector(), event.ext(), target) ||
      !choose_stack(cpu, event, target, gate.gate_stack(), stack)) {
    return false;
  }
  std::uint64_t offset = gate.gate_offset();
  if (kind.value_size == 2) offset &= 0xFFFF;
  if (!check_target_offset(cpu, target, event.ext(), offset) ||
      !mark_target_accessed(cpu, target)) {
    return false;
  }

  const bool inward = target.cpl < cpu.cpl;
  PushFrame frame(stack, kind.value_size);
  if (inward || cpu.long_mode()) {
    frame.push(selector_of(cpu, Segment::kSs));
    frame.push(cpu.gpr[kRsp]);
  }
  frame.push(frame_flags(cpu, event));
  frame.push(selector_of(cpu, Segment::kCs));
  frame.push(event.return_rip);
  if (event.has_error_code) frame.push(event.error_code);
  if (!frame.write(cpu)) return false;

  if (inward) cpu.segment[static_cast<std::size_t>(Segment::kSs)] = stack.ss;
  enter_target(cpu, target, offset);
  set_stack_pointer(cpu, frame.pointer());
  clear_flags(cpu, eflags::kTf | eflags::kNt | eflags::kRf | eflags::kVm |
                       (kind.clears_if ? eflags::kIf : 0u));
  return true;
}

// Spec: SDM vol. 3, 20.1.4.
bool enter_real(Cpu& cpu, const Event& event) {
  struct {
    std::uint16_t ip;
    std::uint16_t cs;
  } handler{};
  const std::uint32_t offset = event.vector * 4u;
  if (offset + 3 > cpu.idt.limit) return refuse(cpu, vector::kProtection);
  if (!load_table(cpu, cpu.idt.base + offset, &handler, sizeof handler)) return false;
  if (handler.ip > cpu.segment[static_cast<std::size_t>(Segment::kCs)].limit) {
    return refuse(cpu, vector::kProtection);
  }
  PushFrame frame(current_stack(cpu), 2);
  frame.push(frame_flags(cpu, event));
  frame.push(selector_of(cpu, Segment::kCs));
  frame.push(event.return_rip);
  if (!frame.write(cpu)) return false;

  set_stack_pointer(cpu, frame.pointer());
  load_real_segment(cpu, Segment::kCs, handler.cs);
  cpu.rip = handler.ip;
  clear_flags(cpu, eflags::kTf | eflags::kIf | eflags::kRf | eflags::kAc);
  return true;
}

}  // namespace

bool enter_handler(Cpu& cpu, const Event& event) {
  return protected_mode(cpu) ? enter_protected(cpu, event) : enter_real(cpu, event);
}

}  // namespace sm::soft
