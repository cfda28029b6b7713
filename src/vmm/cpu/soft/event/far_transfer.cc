#include "vmm/cpu/soft/event/far_transfer.h"

#include <array>

#include "vmm/cpu/soft/event/code_target.h"
#include "vmm/cpu/soft/event/inner_stack.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/stack.h"

namespace sm::soft {

namespace {

SegmentRegister& register_of(Cpu& cpu, Segment which) {
  return cpu.segment[static_cast<std::size_t>(which)];
}

// ---- Real mode --------------------------------------------------------------------------------

bool check_real_target(Cpu& cpu, const FarPointer& to) {
  return to.offset <= register_of(cpu, Segment::kCs).limit || refuse(cpu, vector::kProtection, 0);
}
void enter_real_target(Cpu& cpu, const FarPointer& to) {
  load_real_segment(cpu, Segment::kCs, to.selector);
  cpu.rip = to.offset;
}

// ---- Targets ----------------------------------------------------------------------------------

// A far transfer resolved: where it goes, and through which gate if any.
struct Transfer {
  CodeTarget target;
  std::uint64_t offset = 0;
  bool through_gate = false;
  std::uint32_t gate_value_size = 0;  // of what a gate pushes
  std::uint32_t parameters = 0;
};

bool check_call_gate(Cpu& cpu, const DescriptorEntry& entry, Transfer& out) {
  const Attributes gate = entry.attributes();
  const std::uint32_t error = selector_error(entry.selector);
  const bool is_16bit = gate.system_type() == SystemType::kCallGate16 && !cpu.long_mode();
  const bool is_gate = is_16bit || gate.system_type() == SystemType::kCallGate;
  if (!is_gate || gate.dpl() < cpu.cpl || requested_privilege(entry.selector) > gate.dpl()) {
    return refuse(cpu, vector::kProtection, error);
  }
  if (!entry.descriptor.second_type_clear()) return refuse(cpu, vector::kProtection, error);
  if (!gate.present()) return refuse(cpu, vector::kSegmentNotPresent, error);
  out.through_gate = true;
  out.gate_value_size = cpu.long_mode() ? 8 : is_16bit ? 2 : 4;
  out.parameters = cpu.long_mode() ? 0 : entry.descriptor.gate_parameters();
  out.offset = entry.descriptor.gate_offset();
  if (is_16bit) out.offset &= 0xFFFF;
  return check_gate_target(cpu, entry.descriptor.gate_selector(), 0, out.target) &&
         check_target_offset(cpu, out.target, 0, out.offset);
}

bool resolve(Cpu& cpu, const FarPointer& to, Transfer& out) {
  if (is_null_selector(to.selector)) return refuse(cpu, vector::kProtection, 0);
  DescriptorEntry entry;
  if (!fetch_descriptor(cpu, to.selector, vector::kProtection, 0, entry)) return false;
  if (entry.attributes().is_system()) return check_call_gate(cpu, entry, out);
  out.target.entry = entry;
  out.offset = to.offset;
  return check_direct_target(cpu, out.target) &&
         check_target_offset(cpu, out.target, 0, out.offset);
}

// ---- Calls ------------------------------------------------------------------------------------

// Parameters go from the caller's stack to the inner one in the same order.
bool push_parameters(Cpu& cpu, const Transfer& to, PushFrame& frame) {
  PopFrame caller(cpu, to.gate_value_size);
  std::array<std::uint64_t, 32> values{};
  for (std::uint32_t i = 0; i < to.parameters; ++i) {
    if (!caller.pop(cpu, &values[i], 1)) return false;
  }
  for (std::uint32_t i = to.parameters; i-- > 0;) frame.push(values[i]);
  return true;
}

Next call_inner_ring(Cpu& cpu, Transfer& to, std::uint64_t return_rip) {
  StackTarget stack;
  if (!read_inner_stack(cpu, to.target.cpl, 0, stack)) return Next::kAborted;
  PushFrame frame(stack, to.gate_value_size);
  frame.push(register_of(cpu, Segment::kSs).selector);
  frame.push(cpu.gpr[kRsp]);
  if (!push_parameters(cpu, to, frame)) return Next::kAborted;
  frame.push(register_of(cpu, Segment::kCs).selector);
  frame.push(return_rip);
  if (!mark_target_accessed(cpu, to.target) || !frame.write(cpu)) return Next::kAborted;
  register_of(cpu, Segment::kSs) = stack.ss;
  enter_target(cpu, to.target, to.offset);
  set_stack_pointer(cpu, frame.pointer());
  return Next::kJump;
}

Next call_same_ring(Cpu& cpu, Transfer& to, std::uint32_t value_size, std::uint64_t return_rip) {
  StackTarget stack = current_stack(cpu);
  if (to.through_gate && cpu.long_mode()) stack.is_64bit = true;
  PushFrame frame(stack, value_size);
  frame.push(register_of(cpu, Segment::kCs).selector);
  frame.push(return_rip);
  if (!mark_target_accessed(cpu, to.target) || !frame.write(cpu)) return Next::kAborted;
  // The pointer's width is that of the stack that was pushed on, not of the new mode.
  if (!stack.is_64bit) set_stack_pointer(cpu, frame.pointer());
  if (stack.is_64bit) cpu.gpr[kRsp] = frame.pointer();
  enter_target(cpu, to.target, to.offset);
  return Next::kJump;
}

}  // namespace

Next far_jump(Cpu& cpu, FarPointer to) {
  if (!protected_mode(cpu)) {
    if (!check_real_target(cpu, to)) return Next::kAborted;
    enter_real_target(cpu, to);
    return Next::kJump;
  }
  Transfer transfer;
  if (!resolve(cpu, to, transfer)) return Next::kAborted;
  // A jump cannot change the ring.
  if (transfer.target.cpl != cpu.cpl) {
    return raise(cpu, vector::kProtection, selector_error(transfer.target.entry.selector));
  }
  if (!mark_target_accessed(cpu, transfer.target)) return Next::kAborted;
  enter_target(cpu, transfer.target, transfer.offset);
  return Next::kJump;
}

Next far_call(Cpu& cpu, FarPointer to, std::uint32_t operand_size, std::uint64_t return_rip) {
  if (!protected_mode(cpu)) {
    if (!check_real_target(cpu, to)) return Next::kAborted;
    PushFrame frame(current_stack(cpu), operand_size);
    frame.push(register_of(cpu, Segment::kCs).selector);
    frame.push(return_rip);
    if (!frame.write(cpu)) return Next::kAborted;
    set_stack_pointer(cpu, frame.pointer());
    enter_real_target(cpu, to);
    return Next::kJump;
  }
  Transfer transfer;
  if (!resolve(cpu, to, transfer)) return Next::kAborted;
  if (transfer.target.cpl != cpu.cpl) return call_inner_ring(cpu, transfer, return_rip);
  const std::uint32_t size = transfer.through_gate ? transfer.gate_value_size : operand_size;
  return call_same_ring(cpu, transfer, size, return_rip);
}

}  // namespace sm::soft
