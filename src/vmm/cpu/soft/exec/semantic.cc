#include <array>
#include <cstddef>

#include "vmm/cpu/soft/exec/groups.h"

namespace sm::soft {

namespace {

using Table = SemanticTable;

Next undefined(Cpu& cpu, const Insn& /*insn*/) { return raise(cpu, vector::kUndefined); }

Table joined() {
  Table table;
  table.fill(undefined);
  for (const auto group :
       {move_semantics(), alu_semantics(), multiply_semantics(), shift_semantics(), bit_semantics(),
        atomic_semantics(), decimal_semantics(), stack_semantics(), control_semantics(),
        flag_semantics(), random_semantics(), string_semantics(), port_semantics(),
        system_semantics(), vector_semantics(), x87_semantics()}) {
    for (const SemanticEntry& entry : group) {
      table[static_cast<std::size_t>(entry.op)] = entry.function;
    }
  }
  return table;
}

}  // namespace

const SemanticTable kSemantics = joined();

}  // namespace sm::soft
