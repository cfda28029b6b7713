// What the files of system instructions share. Each contributes a group; system.cc joins them and
// gives them as system_semantics().
// Thread: the vCPU's own.
//
// Not here, so undefined: MONITOR, MWAIT, XGETBV and XSETBV (CPUID hides them), UD0, UD1, UD2.
#pragma once

#include <cstdint>
#include <span>

#include "vmm/cpu/soft/exec/operand.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

std::span<const SemanticEntry> control_register_semantics();  // CR, DR, MSR, translations
std::span<const SemanticEntry> segment_semantics();           // segment registers and descriptors
std::span<const SemanticEntry> transfer_semantics();          // events, far transfers, ring changes

// RIP behind the instruction.
inline std::uint64_t next_rip(const Cpu& cpu, const Insn& insn) {
  const std::uint64_t next = cpu.rip + insn.length;
  return cpu.mode == CodeMode::k64 ? next : next & 0xFFFFFFFF;
}
// The end of an instruction after which the code ahead may mean something else: what was decoded
// with other tables or in another mode does not count.
inline Next start_over(Cpu& cpu, std::uint64_t rip) {
  cpu.rip = rip;
  return Next::kJump;
}

// A 16-bit source: register or memory.
inline bool read_selector(Cpu& cpu, const Insn& insn, std::size_t i, std::uint16_t& value) {
  return read_operand(cpu, insn, i, value);
}
// A destination that is 2 bytes in memory but of the operand size, zero-extended, in a register.
inline Next write_word(Cpu& cpu, const Insn& insn, std::uint64_t value) {
  if (insn.operand[0].kind == OperandKind::kMem) {
    return store_operand(cpu, insn, static_cast<std::uint16_t>(value)) ? Next::kNext
                                                                       : Next::kAborted;
  }
  write_sized(cpu, insn.operand[0].reg, insn.operand_size, value);
  return Next::kNext;
}

}  // namespace sm::soft
