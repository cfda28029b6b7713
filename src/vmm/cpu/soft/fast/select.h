// Which handler an instruction gets. Each file of handlers has a table of operations with a
// function that chooses by sizes and operands; translate.cc joins them. Any thread; pure.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

#include "vmm/cpu/soft/fast/operands.h"
#include "vmm/cpu/soft/fast/uop.h"
#include "vmm/cpu/soft/insn.h"

namespace sm::soft::fast {

// What the choice depends on. The uop's operands are filled in and may be changed.
struct Choice {
  const Insn& insn;
  bool flags_needed;  // by anything that comes after
  Uop& uop;
};
// Null: no handler, the semantic function does it.
using Select = Handler (*)(const Choice& choice);
struct SelectEntry {
  Op op;
  Select select;
};

std::span<const SelectEntry> alu_selects();
std::span<const SelectEntry> multiply_selects();
std::span<const SelectEntry> shift_selects();
std::span<const SelectEntry> bit_selects();
std::span<const SelectEntry> atomic_selects();
std::span<const SelectEntry> flag_selects();
std::span<const SelectEntry> move_selects();
std::span<const SelectEntry> stack_selects();
std::span<const SelectEntry> branch_selects();
std::span<const SelectEntry> string_selects();
std::span<const SelectEntry> vector_move_selects();
std::span<const SelectEntry> vector_packed_selects();
std::span<const SelectEntry> vector_float_selects();

// A handler that does `insn` and the conditional branch behind it, whose uop follows. Null: none.
Handler select_fused(const Insn& insn, std::uint8_t condition);

// IMUL with one operand.
Handler select_wide_imul(const Choice& choice);
// Arithmetic with a LOCK prefix.
Handler select_locked(const Insn& insn);
// XCHG with memory, which moves the register to Uop::src.
Handler select_xchg_memory(const Insn& insn, Uop& uop);
// STI with another instruction behind it in its block.
Handler sti_handler();
// The handler behind the last instruction of a block: it goes on at `disp` of the page.
Handler exit_handler(std::int32_t disp);

// ---- For the tables

inline constexpr std::size_t kSizes = 4;  // 1, 2, 4, 8 bytes
inline std::size_t size_index(std::uint8_t bytes) {
  return static_cast<std::size_t>(std::countr_zero(static_cast<unsigned>(bytes)));
}

inline bool is_register(const Operand& operand) { return operand.kind == OperandKind::kGpr; }
inline bool is_memory(const Operand& operand) { return operand.kind == OperandKind::kMem; }
inline bool is_immediate(const Operand& operand) { return operand.kind == OperandKind::kImm; }

// Of the memory operand. Only for simple ones, see fill_operands().
inline Shape shape_of(const Insn& insn) {
  if (insn.segment >= Segment::kFs) return Shape::kSegment;
  return insn.index == kNoRegister ? Shape::kBase : Shape::kIndexed;
}
inline std::size_t shape_index(const Insn& insn) {
  return static_cast<std::size_t>(shape_of(insn));
}

// Puts the instruction at `offset` of its page into the form of a uop, but for the handler. False:
// handlers cannot do with its operands (32-bit addresses, a far displacement).
bool fill_operands(const Insn& insn, std::uint16_t offset, Uop& uop);

}  // namespace sm::soft::fast
