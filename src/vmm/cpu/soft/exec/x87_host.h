// Any x87 instruction, executed by the host on a whole x87 state: exact for every combination of
// operands, stack faults, precision, rounding and unmasked exceptions, since it is the real one.
//
// An unmasked exception does not trap here: the processor keeps it for the next waiting x87
// instruction, and the two that follow, FXSAVE and FNINIT, do not wait.
// Thread: any. Spec: SDM vol. 1, 8.7; vol. 2, appendix A.2.7 (escape opcodes).
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/insn.h"

namespace sm::soft {

// How one operation is encoded. A register form is an index into D8 C0 .. DF FF, a memory form one
// into D8 /0 .. DF /7, plus 1; 0 = there is none.
struct X87Form {
  std::uint16_t registers = 0;  // ST(0) is the destination or the only operand, ST(i) the rm
  std::uint16_t to_sti = 0;     // ST(i) is the destination
  std::uint8_t memory[4] = {0, 0, 0, 0};  // of 2, 4, 8, 10 bytes
  bool stores = false;                    // the memory forms write
};

// The encoding of operations from kFld to kFwait that are not control instructions (those have no
// form at all).
const X87Form& x87_form(Op op);

// Executes `insn` on `image`, which has no exception pending and all of whose unused bytes are
// defined. The memory operand, if there is one, is `memory`, at least 10 bytes. Returns the
// arithmetic flags afterwards. Only status, tags and registers of `image` mean anything then.
StatusFlags x87_execute(const Insn& insn, FxState& image, void* memory, StatusFlags flags);

// Index in Insn::operand of the one in memory, or -1.
inline int x87_memory_operand(const Insn& insn) {
  for (int i = 0; i < insn.operand_count; ++i) {
    if (insn.operand[static_cast<unsigned>(i)].kind == OperandKind::kMem) {
      return i;
    }
  }
  return -1;
}

}  // namespace sm::soft
