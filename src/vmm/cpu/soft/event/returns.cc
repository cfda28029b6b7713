#include "vmm/cpu/soft/event/returns.h"

#include <array>

#include "vmm/cpu/soft/event/code_target.h"
#include "vmm/cpu/soft/event/flags.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/stack.h"

namespace sm::soft {

namespace {

SegmentRegister& register_of(Cpu& cpu, Segment which) {
  return cpu.segment[static_cast<std::size_t>(which)];
}

// What a return takes off the stack and where it leads to.
struct Return {
  CodeTarget target;
  std::uint64_t rip = 0;
  bool has_stack = false;
  SegmentRegister ss;
  std::uint64_t rsp = 0;
};

// The outer stack's selector. Null is allowed for 64-bit code that is not the user's.
bool check_return_stack(Cpu& cpu, std::uint64_t selector, std::uint64_t rsp, Return& to) {
  const bool null_allowed = to.target.is_64bit(cpu) && to.target.cpl != 3;
  to.has_stack = true;
  to.rsp = rsp;
  return read_stack_segment(cpu, static_cast<std::uint16_t>(selector), to.target.cpl, null_allowed,
                            vector::kProtection, 0, to.ss);
}

bool check_return(Cpu& cpu, std::uint64_t rip, std::uint64_t cs, Return& to) {
  to.rip = rip;
  return check_return_target(cpu, static_cast<std::uint16_t>(cs), to.target) &&
         check_target_offset(cpu, to.target, 0, to.rip);
}

// CS, RIP, and SS and RSP where they were popped; else the pointer moves behind the frame.
void go(Cpu& cpu, const Return& to, std::uint64_t inner_pointer) {
  const bool outward = to.target.cpl > cpu.cpl;
  if (to.has_stack) {
    register_of(cpu, Segment::kSs) = to.ss;
  } else {
    set_stack_pointer(cpu, inner_pointer);  // as code of the old mode sees it
  }
  enter_target(cpu, to.target, to.rip);
  if (to.has_stack) set_stack_pointer(cpu, to.rsp);
  if (outward) drop_inner_segments(cpu);
}

void return_flags(Cpu& cpu, std::uint64_t image, std::uint32_t writable) {
  load_rflags(cpu, (cpu.rflags() & ~std::uint64_t{writable}) | (image & writable));
  cpu.nmi_masked = false;  // one that came meanwhile is a request of its own
}

// IRET loads some flags more than POPF. To be asked before the CPL changes.
std::uint32_t return_flags_mask(const Cpu& cpu, std::uint32_t operand_size) {
  std::uint32_t mask = writable_flags(cpu, operand_size);
  if (operand_size == 2) return mask;
  mask |= eflags::kRf;
  if (cpu.cpl == 0 && protected_mode(cpu)) mask |= eflags::kVif | eflags::kVip;
  return mask;
}

struct RealReturn {
  std::uint16_t cs;
  std::uint64_t ip;
};
bool check_real(Cpu& cpu, const std::uint64_t* values, RealReturn& to) {
  to = {static_cast<std::uint16_t>(values[1]), values[0]};
  return to.ip <= register_of(cpu, Segment::kCs).limit || refuse(cpu, vector::kProtection, 0);
}
void go_real(Cpu& cpu, const RealReturn& to, std::uint64_t pointer) {
  set_stack_pointer(cpu, pointer);
  load_real_segment(cpu, Segment::kCs, to.cs);
  cpu.rip = to.ip;
}

Next interrupt_return_real(Cpu& cpu, std::uint32_t operand_size) {
  std::array<std::uint64_t, 3> values{};
  PopFrame frame(cpu, operand_size);
  RealReturn to{};
  if (!frame.pop(cpu, values.data(), 3) || !check_real(cpu, values.data(), to)) {
    return Next::kAborted;
  }
  go_real(cpu, to, frame.pointer());
  return_flags(cpu, values[2], return_flags_mask(cpu, operand_size));
  return Next::kJump;
}

Next interrupt_return_protected(Cpu& cpu, std::uint32_t operand_size) {
  if ((cpu.other_flags & eflags::kNt) != 0) return raise(cpu, vector::kProtection, 0);
  // RIP, CS, RFLAGS, RSP, SS. 64-bit code always has the last two.
  std::array<std::uint64_t, 5> values{};
  PopFrame frame(cpu, operand_size);
  const bool always_stack = cpu.mode == CodeMode::k64;
  Return to;
  if (!frame.pop(cpu, values.data(), always_stack ? 5 : 3)) return Next::kAborted;
  const bool to_virtual_8086 =
      !cpu.long_mode() && operand_size == 4 && cpu.cpl == 0 && (values[2] & eflags::kVm) != 0;
  if (to_virtual_8086) return raise(cpu, vector::kProtection, 0);
  if (!check_return(cpu, values[0], values[1], to)) return Next::kAborted;
  const bool outward = to.target.cpl > cpu.cpl;
  if (outward && !always_stack && !frame.pop(cpu, values.data() + 3, 2)) return Next::kAborted;
  if ((always_stack || outward) && !check_return_stack(cpu, values[4], values[3], to)) {
    return Next::kAborted;
  }
  if (!mark_target_accessed(cpu, to.target)) return Next::kAborted;
  const std::uint32_t writable = return_flags_mask(cpu, operand_size);
  go(cpu, to, frame.pointer());
  return_flags(cpu, values[2], writable);
  return Next::kJump;
}

Next far_return_real(Cpu& cpu, std::uint32_t operand_size, std::uint16_t release) {
  std::array<std::uint64_t, 2> values{};
  PopFrame frame(cpu, operand_size);
  RealReturn to{};
  if (!frame.pop(cpu, values.data(), 2) || !check_real(cpu, values.data(), to)) {
    return Next::kAborted;
  }
  go_real(cpu, to, frame.pointer() + release);
  return Next::kJump;
}

}  // namespace

Next interrupt_return(Cpu& cpu, std::uint32_t operand_size) {
  return protected_mode(cpu) ? interrupt_return_protected(cpu, operand_size)
                             : interrupt_return_real(cpu, operand_size);
}

Next far_return(Cpu& cpu, std::uint32_t operand_size, std::uint16_t release) {
  if (!protected_mode(cpu)) return far_return_real(cpu, operand_size, release);
  std::array<std::uint64_t, 4> values{};  // RIP, CS, RSP, SS
  PopFrame frame(cpu, operand_size);
  Return to;
  if (!frame.pop(cpu, values.data(), 2) || !check_return(cpu, values[0], values[1], to)) {
    return Next::kAborted;
  }
  frame.skip(release);
  if (to.target.cpl > cpu.cpl) {
    if (!frame.pop(cpu, values.data() + 2, 2) ||
        !check_return_stack(cpu, values[3], values[2] + release, to)) {
      return Next::kAborted;
    }
  }
  if (!mark_target_accessed(cpu, to.target)) return Next::kAborted;
  go(cpu, to, frame.pointer());
  return Next::kJump;
}

}  // namespace sm::soft
