// Instructions that go to other code segments or rings.
// Spec: SDM vol. 2, CALL, JMP, RET, IRET, INT n, SYSCALL, SYSENTER, SWAPGS.
#include <array>
#include <cstring>
#include <utility>

#include "vmm/cpu/soft/event/deliver.h"
#include "vmm/cpu/soft/event/far_transfer.h"
#include "vmm/cpu/soft/event/fast_call.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/returns.h"
#include "vmm/cpu/soft/exec/system.h"

namespace sm::soft {

namespace {

// The far pointer of a JMP or CALL: in the instruction or in memory.
bool read_far_pointer(Cpu& cpu, const Insn& insn, FarPointer& to) {
  const std::uint32_t offset_size = insn.operand_size;
  if (insn.operand[0].kind == OperandKind::kFar) {
    to.offset = static_cast<std::uint64_t>(insn.imm) & address_mask(insn.operand_size);
    to.selector = static_cast<std::uint16_t>(insn.imm2);
    return true;
  }
  std::array<std::uint8_t, 10> bytes{};
  const std::uint32_t size = offset_size + 2;
  std::uint64_t linear = 0;
  if (!linear_address(cpu, insn.segment, effective_offset(cpu, insn), size, false, linear) ||
      !load_linear(cpu, linear, bytes.data(), size)) {
    return false;
  }
  std::memcpy(&to.offset, bytes.data(), offset_size);
  std::memcpy(&to.selector, bytes.data() + offset_size, sizeof to.selector);
  return true;
}

Next jmp_far(Cpu& cpu, const Insn& insn) {
  FarPointer to;
  return read_far_pointer(cpu, insn, to) ? far_jump(cpu, to) : Next::kAborted;
}

Next call_far(Cpu& cpu, const Insn& insn) {
  FarPointer to;
  if (!read_far_pointer(cpu, insn, to)) return Next::kAborted;
  return far_call(cpu, to, insn.operand_size, next_rip(cpu, insn));
}

Next ret_far(Cpu& cpu, const Insn& insn) {
  const bool releases = insn.operand[0].kind == OperandKind::kImm;
  return far_return(cpu, insn.operand_size, releases ? static_cast<std::uint16_t>(insn.imm) : 0);
}

Next iret(Cpu& cpu, const Insn& insn) { return interrupt_return(cpu, insn.operand_size); }

Next int_n(Cpu& cpu, const Insn& insn) {
  return software_interrupt(cpu, static_cast<std::uint8_t>(insn.imm), next_rip(cpu, insn));
}

Next int3(Cpu& cpu, const Insn& insn) {
  return software_interrupt(cpu, vector::kBreakpoint, next_rip(cpu, insn));
}

Next into(Cpu& cpu, const Insn& insn) {
  if (cpu.mode == CodeMode::k64) return raise(cpu, vector::kUndefined);
  if (!cpu.status.of()) return Next::kNext;
  return software_interrupt(cpu, vector::kOverflow, next_rip(cpu, insn));
}

Next int1(Cpu& cpu, const Insn& insn) { return deliver_int1(cpu, next_rip(cpu, insn)); }

Next syscall(Cpu& cpu, const Insn& insn) { return system_call(cpu, next_rip(cpu, insn)); }
Next sysret(Cpu& cpu, const Insn& insn) { return system_return(cpu, insn.operand_size); }
Next sysenter(Cpu& cpu, const Insn& /*insn*/) { return system_enter(cpu); }
Next sysexit(Cpu& cpu, const Insn& insn) { return system_exit(cpu, insn.operand_size); }

Next swapgs(Cpu& cpu, const Insn& /*insn*/) {
  if (cpu.mode != CodeMode::k64) return raise(cpu, vector::kUndefined);
  if (!check_privileged(cpu)) return Next::kAborted;
  std::swap(cpu.segment[static_cast<std::size_t>(Segment::kGs)].base, cpu.kernel_gs_base);
  return Next::kNext;
}

constexpr auto kEntries = std::to_array<SemanticEntry>({
    {Op::kJmpFar, jmp_far},
    {Op::kCallFar, call_far},
    {Op::kRetFar, ret_far},
    {Op::kIret, iret},
    {Op::kInt, int_n},
    {Op::kInt3, int3},
    {Op::kInto, into},
    {Op::kInt1, int1},
    {Op::kSyscall, syscall},
    {Op::kSysret, sysret},
    {Op::kSysenter, sysenter},
    {Op::kSysexit, sysexit},
    {Op::kSwapgs, swapgs},
});

}  // namespace

std::span<const SemanticEntry> transfer_semantics() { return kEntries; }

}  // namespace sm::soft
