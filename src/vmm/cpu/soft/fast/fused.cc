// The forms of fused.h.
#include "vmm/cpu/soft/fast/fused.h"

#include <array>
#include <utility>

#include "vmm/cpu/soft/fast/last.h"
#include "vmm/cpu/soft/fast/select.h"

namespace sm::soft::fast {

namespace {

using ByCondition = std::array<Handler, 16>;
template <class Operation, class T, class First, class Second, std::size_t... kConditions>
constexpr ByCondition by_condition(std::index_sequence<kConditions...>) {
  return {last<CompareAndBranch<Operation, T, First, Second, kConditions>>...};
}
template <class Operation, class T, class First, class Second>
constexpr ByCondition kHandlers =
    by_condition<Operation, T, First, Second>(std::make_index_sequence<16>());

// The forms of an operation in one size; null where there is none.
struct Forms {
  const ByCondition* reg_reg = nullptr;
  const ByCondition* reg_imm = nullptr;
  const ByCondition* reg_mem = nullptr;  // Shape::kBase only, as the next two
  const ByCondition* mem_reg = nullptr;
  const ByCondition* mem_imm = nullptr;
};
using Base = SrcMem<Shape::kBase>;
template <class Operation, class T>
constexpr Forms kRegisterForms{.reg_reg = &kHandlers<Operation, T, DstReg, SrcReg>,
                               .reg_imm = &kHandlers<Operation, T, DstReg, SrcImm>};
template <class Operation, class T>
constexpr Forms kAllForms{.reg_reg = &kHandlers<Operation, T, DstReg, SrcReg>,
                          .reg_imm = &kHandlers<Operation, T, DstReg, SrcImm>,
                          .reg_mem = &kHandlers<Operation, T, DstReg, Base>,
                          .mem_reg = &kHandlers<Operation, T, Base, SrcReg>,
                          .mem_imm = &kHandlers<Operation, T, Base, SrcImm>};
template <class T>
constexpr Forms kTestForms{.reg_reg = &kHandlers<fused::Test, T, DstReg, SrcReg>,
                           .reg_imm = &kHandlers<fused::Test, T, DstReg, SrcImm>,
                           .mem_imm = &kHandlers<fused::Test, T, Base, SrcImm>};

// By size; words are rare.
using BySize = std::array<Forms, kSizes>;
constexpr BySize kCmp{kAllForms<fused::Cmp, std::uint8_t>,
                      kRegisterForms<fused::Cmp, std::uint16_t>,
                      kAllForms<fused::Cmp, std::uint32_t>, kAllForms<fused::Cmp, std::uint64_t>};
constexpr BySize kTest{kTestForms<std::uint8_t>, Forms{}, kTestForms<std::uint32_t>,
                       kTestForms<std::uint64_t>};
template <class Operation>
constexpr BySize kArithmetic{Forms{}, Forms{}, kRegisterForms<Operation, std::uint32_t>,
                             kRegisterForms<Operation, std::uint64_t>};

const BySize* forms_of(Op op) {
  switch (op) {
    case Op::kCmp:
      return &kCmp;
    case Op::kTest:
      return &kTest;
    case Op::kSub:
      return &kArithmetic<fused::Sub>;
    case Op::kAnd:
      return &kArithmetic<fused::And>;
    case Op::kAdd:
      return &kArithmetic<fused::Add>;
    default:
      return nullptr;
  }
}

const ByCondition* choose(const Forms& forms, const Insn& insn) {
  const bool from_imm = is_immediate(insn.operand[1]);
  const bool first = is_memory(insn.operand[0]), second = is_memory(insn.operand[1]);
  if ((first || second) && shape_of(insn) != Shape::kBase) return nullptr;
  if (first) return from_imm ? forms.mem_imm : forms.mem_reg;
  if (second) return forms.reg_mem;
  return from_imm ? forms.reg_imm : forms.reg_reg;
}

}  // namespace

Handler select_fused(const Insn& insn, std::uint8_t condition) {
  const BySize* forms = forms_of(insn.op);
  if (forms == nullptr) return nullptr;
  const ByCondition* handlers = choose((*forms)[size_index(insn.operand[0].size)], insn);
  return handlers == nullptr ? nullptr : (*handlers)[condition];
}

}  // namespace sm::soft::fast
