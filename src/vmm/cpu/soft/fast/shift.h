// Shifts and rotations of registers as steps.
// Thread: the vCPU's own.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "vmm/cpu/soft/exec/flags.h"
#include "vmm/cpu/soft/fast/step.h"

namespace sm::soft::fast {

// plain() gets a count below the operand's width, which is 32 or 64 bits.
#define SM_SOFT_OPERATION(Name, function, expression)         \
  struct Name {                                               \
    template <class T>                                        \
    static T apply(T a, std::uint8_t count, StatusFlags& f) { \
      return host::function(a, count, f);                     \
    }                                                         \
    template <class T>                                        \
    static T plain(T a, unsigned count) {                     \
      using Signed [[maybe_unused]] = std::make_signed_t<T>;  \
      return static_cast<T>(expression);                      \
    }                                                         \
  };
SM_SOFT_OPERATION(Rol, rol, std::rotl(a, static_cast<int>(count)))
SM_SOFT_OPERATION(Ror, ror, std::rotr(a, static_cast<int>(count)))
SM_SOFT_OPERATION(Shl, shl, a << count)
SM_SOFT_OPERATION(Shr, shr, a >> count)
SM_SOFT_OPERATION(Sar, sar, static_cast<Signed>(a) >> count)
#undef SM_SOFT_OPERATION

template <class Operation, class T, class Count, bool kFlags>
struct Shift {
  [[gnu::always_inline]] static bool run(Cpu& cpu, const Uop* uop) {
    const auto count = load_from<std::uint8_t>(Count::template locate<std::uint8_t>(cpu, uop));
    T a = read_gpr_at<T>(cpu, uop->dst);
    if constexpr (kFlags) {
      a = Operation::apply(a, count, cpu.status);
    } else {
      a = Operation::plain(a, count % (sizeof(T) * 8));
    }
    write_gpr_at<T>(cpu, uop->dst, a);
    return true;
  }
};

}  // namespace sm::soft::fast
