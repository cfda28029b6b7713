// The state of x87, MMX and SSE as a whole: FXSAVE, FXRSTOR, LDMXCSR, STMXCSR, EMMS.
// Spec: SDM vol. 1, 10.5.
#include <array>

#include "vmm/cpu/soft/exec/mxcsr.h"
#include "vmm/cpu/soft/exec/vector_common.h"
#include "vmm/cpu/soft/exec/x87_control.h"

namespace sm::soft {

namespace {

constexpr std::uint32_t kAreaSize = 512;

// Bytes of the area that the processor writes: XMM8..15 exist in 64-bit mode only, and what follows
// the registers is left alone.
std::uint32_t written_size(const Cpu& cpu) {
  const std::uint32_t registers = cpu.mode == CodeMode::k64 ? 16 : 8;
  return static_cast<std::uint32_t>(offsetof(FxState, xmm)) + registers * 16;
}

// Linear address of the area: after the checks that FXSAVE and FXRSTOR have in common.
bool area_address(Cpu& cpu, const Insn& insn, bool is_write, std::uint64_t& linear) {
  if ((cpu.cr0 & (kCr0Em | kCr0Ts)) != 0) {
    raise(cpu, (cpu.cr0 & kCr0Em) != 0 ? vector::kUndefined : vector::kNoMath);
    return false;
  }
  if (!linear_address(cpu, insn.segment, effective_offset(cpu, insn), kAreaSize, is_write,
                      linear)) {
    return false;
  }
  if ((linear & 15) != 0) {
    raise(cpu, vector::kProtection, 0);
    return false;
  }
  return true;
}

// FXSAVE without REX.W keeps 32 bits of the pointers; the selectors beside them are stored as 0.
void narrow_pointers(FxState& area) {
  area.instruction_pointer = static_cast<std::uint32_t>(area.instruction_pointer);
  area.data_pointer = static_cast<std::uint32_t>(area.data_pointer);
}

Next fxsave(Cpu& cpu, const Insn& insn) {
  std::uint64_t linear = 0;
  if (!area_address(cpu, insn, true, linear) || !check_write(cpu, linear, kAreaSize)) {
    return Next::kAborted;
  }
  FxState area = cpu.fx;
  area.reserved = 0;
  area.mxcsr_mask = mxcsr::kValid;
  if (insn.operand_size != 8) {
    narrow_pointers(area);
  }
  return store_linear(cpu, linear, &area, written_size(cpu)) ? Next::kNext : Next::kAborted;
}

Next fxrstor(Cpu& cpu, const Insn& insn) {
  FxState area;
  std::uint64_t linear = 0;
  if (!area_address(cpu, insn, false, linear) || !load_linear(cpu, linear, &area, kAreaSize)) {
    return Next::kAborted;
  }
  if ((area.mxcsr & ~mxcsr::kValid) != 0) {
    return raise(cpu, vector::kProtection, 0);
  }
  if (insn.operand_size != 8) {
    narrow_pointers(area);
  }
  FxState& fx = cpu.fx;
  fx.control = x87_control_word(area.control);
  fx.status = area.status;
  fx.abridged_tag = area.abridged_tag;
  fx.opcode = area.opcode & 0x7FF;
  fx.instruction_pointer = area.instruction_pointer;
  fx.data_pointer = area.data_pointer;
  for (unsigned i = 0; i < 8; ++i) {
    std::memcpy(fx.st[i].data(), area.st[i].data(), 10);
  }
  x87_update_summary(fx);
  if ((cpu.cr4 & kCr4Osfxsr) != 0) {
    fx.mxcsr = area.mxcsr;
    std::memcpy(fx.xmm.data(), area.xmm.data(), cpu.mode == CodeMode::k64 ? 256 : 128);
  }
  return Next::kNext;
}

Next ldmxcsr(Cpu& cpu, const Insn& insn) {
  std::uint32_t value = 0;
  if (!sse_ready(cpu) || !load_operand(cpu, insn, value)) {
    return Next::kAborted;
  }
  if ((value & ~mxcsr::kValid) != 0) {
    return raise(cpu, vector::kProtection, 0);
  }
  cpu.fx.mxcsr = value;
  return Next::kNext;
}

Next stmxcsr(Cpu& cpu, const Insn& insn) {
  return sse_ready(cpu) && store_operand(cpu, insn, cpu.fx.mxcsr) ? Next::kNext : Next::kAborted;
}

Next emms(Cpu& cpu, const Insn& /*insn*/) {
  if (!mmx_ready(cpu)) {
    return Next::kAborted;
  }
  x87_set_top(cpu.fx, 0);
  cpu.fx.abridged_tag = 0;
  return Next::kNext;
}

constexpr SemanticEntry kEntries[] = {
    {Op::kFxsave, fxsave},   {Op::kFxrstor, fxrstor}, {Op::kLdmxcsr, ldmxcsr},
    {Op::kStmxcsr, stmxcsr}, {Op::kEmms, emms},
};

}  // namespace

std::span<const SemanticEntry> vector_state_semantics() { return kEntries; }

}  // namespace sm::soft
