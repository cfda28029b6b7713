#include "vmm/cpu/soft/fast/flag_use.h"

#include <algorithm>

namespace sm::soft {

namespace {

enum class FlagUse : unsigned char {
  kNeeds,   // reads them, or may fault
  kKeeps,   // leaves all or some of them as they are, and is not interested otherwise
  kDefines  // writes all of them without looking
};

// Of the forms without memory.
FlagUse use_of(Op op) {
  switch (op) {
    case Op::kAdd:
    case Op::kOr:
    case Op::kAnd:
    case Op::kSub:
    case Op::kXor:
    case Op::kCmp:
    case Op::kTest:
    case Op::kNeg:
      return FlagUse::kDefines;
    // Partial writers, whose undefined flags may be the old ones.
    case Op::kInc:
    case Op::kDec:
    case Op::kImul:
    case Op::kRol:
    case Op::kRor:
    case Op::kShl:
    case Op::kShr:
    case Op::kSar:
    case Op::kBt:
    case Op::kBts:
    case Op::kBtr:
    case Op::kBtc:
    case Op::kBsf:
    case Op::kBsr:
    // No flags.
    case Op::kMov:
    case Op::kMovzx:
    case Op::kMovsx:
    case Op::kMovsxd:
    case Op::kLea:
    case Op::kBswap:
    case Op::kXchg:
    case Op::kCbw:
    case Op::kCwd:
    case Op::kNot:
    case Op::kNop:
    case Op::kPrefetch:
    case Op::kEndbr64:
    case Op::kLfence:
    case Op::kSfence:
      return FlagUse::kKeeps;
    default:
      return FlagUse::kNeeds;
  }
}

bool touches_memory(const Insn& insn) {
  const bool has_memory =
      std::any_of(insn.operand.begin(), insn.operand.end(),
                  [](const Operand& operand) { return operand.kind == OperandKind::kMem; });
  return has_memory && insn.op != Op::kLea && insn.op != Op::kNop && insn.op != Op::kPrefetch;
}

}  // namespace

bool flags_needed_before(const Insn& insn, bool needed_behind) {
  if (touches_memory(insn)) return true;
  switch (use_of(insn.op)) {
    case FlagUse::kDefines:
      return false;
    case FlagUse::kKeeps:
      return needed_behind;
    case FlagUse::kNeeds:
      break;
  }
  return true;
}

}  // namespace sm::soft
