// Comparisons and arithmetic joined with the conditional branch behind them: one dispatch, and the
// condition straight from the host's flags.
// Thread: the vCPU's own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vmm/cpu/soft/fast/jump.h"
#include "vmm/cpu/soft/fast/operands.h"

namespace sm::soft::fast {

namespace fused {

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

}  // namespace fused

// With `kEnds` the block's exit comes behind it and is executed with it.
template <class Operation, class T, class First, class Second, std::uint8_t kCondition,
          bool kEnds = false>
struct CompareAndBranch {
  static constexpr std::size_t kUops = 2;
  [[gnu::always_inline]] static const Uop* leave(Cpu& cpu, const Uop* uop) {
    const std::byte* from = Second::template locate<T>(cpu, uop);
    if constexpr (Second::kIsMemory) {
      if (from == nullptr) [[unlikely]]
        return run_semantic(cpu, uop, {});
    }
    auto* to = First::template locate<T>(cpu, uop);
    if constexpr (First::kIsMemory) {
      if (to == nullptr) [[unlikely]]
        return run_semantic(cpu, uop, {});
    }
    T a = load_from<T>(to);
    const bool holds = Operation::template apply<kCondition>(a, load_from<T>(from), cpu.status);
    if constexpr (Operation::kWrites) First::template store<T>(to, a);
    if (holds) return branch(cpu, uop + 1);
    return kEnds ? branch(cpu, uop + 2) : go_to(cpu, uop + 2);
  }
};

}  // namespace sm::soft::fast
