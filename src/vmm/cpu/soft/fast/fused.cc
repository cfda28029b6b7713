// Comparisons and arithmetic joined with the conditional branch behind them: one dispatch, and the
// condition straight from the host's flags.
#include <array>
#include <utility>

#include "vmm/cpu/soft/fast/jump.h"
#include "vmm/cpu/soft/fast/operands.h"
#include "vmm/cpu/soft/fast/select.h"

namespace sm::soft::fast {

namespace {

// a = a op b, with the flags to `flags`; whether the condition holds. LAHF and SETO change none.
#define SM_SOFT_ASM(text, condition)                           \
  asm(text " %[b], %[a]\n\tlahf\n\tseto %%al"                  \
      : [a] "+&q"(a), "=&a"(flags.ax), "=@cc" condition(holds) \
      : [b] "q"(b))
#define SM_SOFT_OPERATION(Name, writes, text)                                 \
  struct Name {                                                               \
    static constexpr bool kWrites = writes;                                   \
    template <std::uint8_t kCondition, class T>                               \
    [[gnu::always_inline]] static bool apply(T& a, T b, StatusFlags& flags) { \
      bool holds = false;                                                     \
      if constexpr (kCondition >> 1 == 0) {                                   \
        SM_SOFT_ASM(text, "o");                                               \
      } else if constexpr (kCondition >> 1 == 1) {                            \
        SM_SOFT_ASM(text, "b");                                               \
      } else if constexpr (kCondition >> 1 == 2) {                            \
        SM_SOFT_ASM(text, "e");                                               \
      } else if constexpr (kCondition >> 1 == 3) {                            \
        SM_SOFT_ASM(text, "be");                                              \
      } else if constexpr (kCondition >> 1 == 4) {                            \
        SM_SOFT_ASM(text, "s");                                               \
      } else if constexpr (kCondition >> 1 == 5) {                            \
        SM_SOFT_ASM(text, "p");                                               \
      } else if constexpr (kCondition >> 1 == 6) {                            \
        SM_SOFT_ASM(text, "l");                                               \
      } else {                                                                \
        SM_SOFT_ASM(text, "le");                                              \
      }                                                                       \
      return holds != ((kCondition & 1) != 0);                                \
    }                                                                         \
  };
SM_SOFT_OPERATION(Cmp, false, "cmp")
SM_SOFT_OPERATION(Test, false, "test")
SM_SOFT_OPERATION(Sub, true, "sub")
SM_SOFT_OPERATION(And, true, "and")
SM_SOFT_OPERATION(Add, true, "add")
#undef SM_SOFT_OPERATION
#undef SM_SOFT_ASM

template <class Operation, class T, class First, class Second, std::uint8_t kCondition>
const Uop* compare_and_branch(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::byte* from = Second::template locate<T>(cpu, uop);
  if constexpr (Second::kIsMemory) {
    if (from == nullptr) [[unlikely]]
      return run_semantic(cpu, uop, ahead);
  }
  auto* to = First::template locate<T>(cpu, uop);
  if constexpr (First::kIsMemory) {
    if (to == nullptr) [[unlikely]]
      return run_semantic(cpu, uop, ahead);
  }
  T a = load_from<T>(to);
  const bool holds = Operation::template apply<kCondition>(a, load_from<T>(from), cpu.status);
  if constexpr (Operation::kWrites) First::template store<T>(to, a);
  if (holds) return branch(cpu, uop + 1);
  return go_to(cpu, uop + 2);
}

using ByCondition = std::array<Handler, 16>;
template <class Operation, class T, class First, class Second, std::size_t... kConditions>
constexpr ByCondition by_condition(std::index_sequence<kConditions...>) {
  return {compare_and_branch<Operation, T, First, Second, kConditions>...};
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
constexpr Forms kTestForms{.reg_reg = &kHandlers<Test, T, DstReg, SrcReg>,
                           .reg_imm = &kHandlers<Test, T, DstReg, SrcImm>,
                           .mem_imm = &kHandlers<Test, T, Base, SrcImm>};

// By size; words are rare.
using BySize = std::array<Forms, kSizes>;
constexpr BySize kCmp{kAllForms<Cmp, std::uint8_t>, kRegisterForms<Cmp, std::uint16_t>,
                      kAllForms<Cmp, std::uint32_t>, kAllForms<Cmp, std::uint64_t>};
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
      return &kArithmetic<Sub>;
    case Op::kAnd:
      return &kArithmetic<And>;
    case Op::kAdd:
      return &kArithmetic<Add>;
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
