// Arithmetic with two operands as steps.
// Thread: the vCPU's own.
#pragma once

#include "vmm/cpu/soft/exec/flags.h"
#include "vmm/cpu/soft/fast/step.h"

namespace sm::soft::fast {

// The operations as types: apply() with flags, plain() where nobody looks at those.
#define SM_SOFT_OPERATION(Name, function, writes, expression) \
  struct Name {                                               \
    static constexpr bool kWrites = writes;                   \
    template <class T>                                        \
    static T apply(T a, T b, StatusFlags& flags) {            \
      return host::function(a, b, flags);                     \
    }                                                         \
    template <class T>                                        \
    static T plain(T a, T b) {                                \
      return static_cast<T>(expression);                      \
    }                                                         \
  };
SM_SOFT_OPERATION(Add, add, true, a + b)
SM_SOFT_OPERATION(Or, bit_or, true, a | b)
SM_SOFT_OPERATION(And, bit_and, true, a& b)
SM_SOFT_OPERATION(Sub, sub, true, a - b)
SM_SOFT_OPERATION(Xor, bit_xor, true, a ^ b)
SM_SOFT_OPERATION(Cmp, sub, false, a - b)
SM_SOFT_OPERATION(Test, bit_and, false, a& b)
SM_SOFT_OPERATION(Imul, imul, true, a* b)
#undef SM_SOFT_OPERATION

template <class Operation, class T, class Destination, class Source, bool kFlags>
struct Binary {
  [[gnu::always_inline]] static bool run(Cpu& cpu, const Uop* uop) {
    const std::byte* from = Source::template locate<T>(cpu, uop);
    if constexpr (Source::kIsMemory) {
      if (from == nullptr) [[unlikely]]
        return false;
    }
    std::byte* to = Destination::template locate<T>(cpu, uop);
    if constexpr (Destination::kIsMemory) {
      if (to == nullptr) [[unlikely]]
        return false;
    }
    const T b = load_from<T>(from);
    T a = load_from<T>(to);
    if constexpr (kFlags) {
      a = Operation::apply(a, b, cpu.status);
    } else {
      a = Operation::plain(a, b);
    }
    if constexpr (Operation::kWrites) Destination::template store<T>(to, a);
    return true;
  }
};

}  // namespace sm::soft::fast
