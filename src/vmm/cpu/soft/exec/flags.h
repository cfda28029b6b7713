// Integer arithmetic on the host with its flags: every function takes operands and the guest's
// status flags and leaves the new ones there, undefined ones as this host makes them. T is
// std::uint8_t, 16, 32 or 64. Pure; any thread. This is the one place with inline assembly for
// integer operations. Spec: SDM vol. 2.
#pragma once

#include <cstdint>
#include <type_traits>

#include "vmm/cpu/soft/cpu.h"

namespace sm::soft::host {

// Flags out: LAHF and SETO fill StatusFlags::ax.
#define SM_SOFT_FLAGS_OUT "\n\tlahf\n\tseto %%al"
// Flags in: al is 0 or 1, so that adding 127 overflows when OF is to be set; SAHF sets the others.
#define SM_SOFT_FLAGS_IN "addb $127, %%al\n\tsahf\n\t"

// a = a op b. Operations that define or clear every flag from their operands alone.
#define SM_SOFT_BINARY(name, text)                                                                 \
  template <class T>                                                                               \
  T name(T a, T b, StatusFlags& flags) {                                                           \
    asm(text " %[b], %[a]" SM_SOFT_FLAGS_OUT : [a] "+&q"(a), "=&a"(flags.ax) : [b] "q"(b) : "cc"); \
    return a;                                                                                      \
  }
SM_SOFT_BINARY(add, "add")
SM_SOFT_BINARY(sub, "sub")
SM_SOFT_BINARY(bit_and, "and")
SM_SOFT_BINARY(bit_or, "or")
SM_SOFT_BINARY(bit_xor, "xor")
#undef SM_SOFT_BINARY

// The same for operations that read flags or keep some of them. Also BT and its kin (b is the bit
// number) and two-operand IMUL.
#define SM_SOFT_BINARY(name, text)                            \
  template <class T>                                          \
  T name(T a, T b, StatusFlags& flags) {                      \
    asm(SM_SOFT_FLAGS_IN text " %[b], %[a]" SM_SOFT_FLAGS_OUT \
        : [a] "+&q"(a), "+&a"(flags.ax)                       \
        : [b] "q"(b)                                          \
        : "cc");                                              \
    return a;                                                 \
  }
SM_SOFT_BINARY(adc, "adc")
SM_SOFT_BINARY(sbb, "sbb")
SM_SOFT_BINARY(bt, "bt")
SM_SOFT_BINARY(bts, "bts")
SM_SOFT_BINARY(btr, "btr")
SM_SOFT_BINARY(btc, "btc")
SM_SOFT_BINARY(imul, "imul")
#undef SM_SOFT_BINARY

#define SM_SOFT_UNARY(name, text)                                                                  \
  template <class T>                                                                               \
  T name(T a, StatusFlags& flags) {                                                                \
    asm(SM_SOFT_FLAGS_IN text " %[a]" SM_SOFT_FLAGS_OUT : [a] "+&q"(a), "+&a"(flags.ax) : : "cc"); \
    return a;                                                                                      \
  }
SM_SOFT_UNARY(inc, "inc")
SM_SOFT_UNARY(dec, "dec")
SM_SOFT_UNARY(neg, "neg")
#undef SM_SOFT_UNARY

// Shifts and rotations; the host masks the count as the guest's CPU does.
#define SM_SOFT_SHIFT(name, text)                             \
  template <class T>                                          \
  T name(T a, std::uint8_t count, StatusFlags& flags) {       \
    asm(SM_SOFT_FLAGS_IN text " %%cl, %[a]" SM_SOFT_FLAGS_OUT \
        : [a] "+&q"(a), "+&a"(flags.ax)                       \
        : "c"(count)                                          \
        : "cc");                                              \
    return a;                                                 \
  }
SM_SOFT_SHIFT(rol, "rol")
SM_SOFT_SHIFT(ror, "ror")
SM_SOFT_SHIFT(rcl, "rcl")
SM_SOFT_SHIFT(rcr, "rcr")
SM_SOFT_SHIFT(shl, "shl")
SM_SOFT_SHIFT(shr, "shr")
SM_SOFT_SHIFT(sar, "sar")
#undef SM_SOFT_SHIFT

#define SM_SOFT_SHIFT(name, text)                                   \
  template <class T>                                                \
  T name(T a, T b, std::uint8_t count, StatusFlags& flags) {        \
    asm(SM_SOFT_FLAGS_IN text " %%cl, %[b], %[a]" SM_SOFT_FLAGS_OUT \
        : [a] "+&r"(a), "+&a"(flags.ax)                             \
        : [b] "r"(b), "c"(count)                                    \
        : "cc");                                                    \
    return a;                                                       \
  }
SM_SOFT_SHIFT(shld, "shld")
SM_SOFT_SHIFT(shrd, "shrd")
#undef SM_SOFT_SHIFT

// Bit scans: a zero source leaves the destination as the host does, so it is passed whole.
#define SM_SOFT_SCAN(name, text)                                                \
  template <class T>                                                            \
  std::uint64_t name(std::uint64_t destination, T source, StatusFlags& flags) { \
    if constexpr (sizeof(T) == 8) {                                             \
      asm(SM_SOFT_FLAGS_IN text "q %q[s], %q[d]" SM_SOFT_FLAGS_OUT              \
          : [d] "+&r"(destination), "+&a"(flags.ax)                             \
          : [s] "r"(source)                                                     \
          : "cc");                                                              \
    } else if constexpr (sizeof(T) == 4) {                                      \
      asm(SM_SOFT_FLAGS_IN text "l %k[s], %k[d]" SM_SOFT_FLAGS_OUT              \
          : [d] "+&r"(destination), "+&a"(flags.ax)                             \
          : [s] "r"(source)                                                     \
          : "cc");                                                              \
    } else {                                                                    \
      asm(SM_SOFT_FLAGS_IN text "w %w[s], %w[d]" SM_SOFT_FLAGS_OUT              \
          : [d] "+&r"(destination), "+&a"(flags.ax)                             \
          : [s] "r"(source)                                                     \
          : "cc");                                                              \
    }                                                                           \
    return destination;                                                         \
  }
SM_SOFT_SCAN(bsf, "bsf")
SM_SOFT_SCAN(bsr, "bsr")
#undef SM_SOFT_SCAN

// A result of twice the operands' size, or quotient and remainder.
template <class T>
struct Pair {
  T low;
  T high;
};

// One-operand MUL and IMUL: low * b.
#define SM_SOFT_MULTIPLY(name, text)                                                               \
  template <class T>                                                                               \
  Pair<T> name(T a, T b, StatusFlags& flags) {                                                     \
    T high = 0;                                                                                    \
    if constexpr (sizeof(T) == 8) {                                                                \
      asm(SM_SOFT_FLAGS_IN "mov %[a], %%rax\n\t" text                                              \
                           "q %[b]\n\tmov %%rax, %[a]" SM_SOFT_FLAGS_OUT                           \
          : [a] "+&r"(a), "=&d"(high), "+&a"(flags.ax)                                             \
          : [b] "r"(b)                                                                             \
          : "cc");                                                                                 \
    } else if constexpr (sizeof(T) == 4) {                                                         \
      asm(SM_SOFT_FLAGS_IN "mov %[a], %%eax\n\t" text                                              \
                           "l %[b]\n\tmov %%eax, %[a]" SM_SOFT_FLAGS_OUT                           \
          : [a] "+&r"(a), "=&d"(high), "+&a"(flags.ax)                                             \
          : [b] "r"(b)                                                                             \
          : "cc");                                                                                 \
    } else if constexpr (sizeof(T) == 2) {                                                         \
      asm(SM_SOFT_FLAGS_IN "mov %[a], %%ax\n\t" text "w %[b]\n\tmov %%ax, %[a]" SM_SOFT_FLAGS_OUT  \
          : [a] "+&r"(a), "=&d"(high), "+&a"(flags.ax)                                             \
          : [b] "r"(b)                                                                             \
          : "cc");                                                                                 \
    } else {                                                                                       \
      std::uint16_t product = a;                                                                   \
      asm(SM_SOFT_FLAGS_IN "mov %b[p], %%al\n\t" text "b %[b]\n\tmov %%ax, %[p]" SM_SOFT_FLAGS_OUT \
          : [p] "+&q"(product), "+&a"(flags.ax)                                                    \
          : [b] "q"(b)                                                                             \
          : "cc");                                                                                 \
      a = static_cast<T>(product);                                                                 \
      high = static_cast<T>(product >> 8);                                                         \
    }                                                                                              \
    return {a, high};                                                                              \
  }
SM_SOFT_MULTIPLY(mul_wide, "mul")
SM_SOFT_MULTIPLY(imul_wide, "imul")
#undef SM_SOFT_MULTIPLY

// DIV and IDIV of high:low. The caller has made sure that the host will not fault. Gives quotient
// (low) and remainder (high).
#define SM_SOFT_DIVIDE(name, text)                                                                \
  template <class T>                                                                              \
  Pair<T> name(Pair<T> dividend, T divisor, StatusFlags& flags) {                                 \
    T low = dividend.low, high = dividend.high;                                                   \
    if constexpr (sizeof(T) == 8) {                                                               \
      asm(SM_SOFT_FLAGS_IN "mov %[low], %%rax\n\t" text                                           \
                           "q %[d]\n\tmov %%rax, %[low]" SM_SOFT_FLAGS_OUT                        \
          : [low] "+&r"(low), "+&d"(high), "+&a"(flags.ax)                                        \
          : [d] "r"(divisor)                                                                      \
          : "cc");                                                                                \
    } else if constexpr (sizeof(T) == 4) {                                                        \
      asm(SM_SOFT_FLAGS_IN "mov %[low], %%eax\n\t" text                                           \
                           "l %[d]\n\tmov %%eax, %[low]" SM_SOFT_FLAGS_OUT                        \
          : [low] "+&r"(low), "+&d"(high), "+&a"(flags.ax)                                        \
          : [d] "r"(divisor)                                                                      \
          : "cc");                                                                                \
    } else if constexpr (sizeof(T) == 2) {                                                        \
      asm(SM_SOFT_FLAGS_IN "mov %[low], %%ax\n\t" text                                            \
                           "w %[d]\n\tmov %%ax, %[low]" SM_SOFT_FLAGS_OUT                         \
          : [low] "+&r"(low), "+&d"(high), "+&a"(flags.ax)                                        \
          : [d] "r"(divisor)                                                                      \
          : "cc");                                                                                \
    } else {                                                                                      \
      auto word = static_cast<std::uint16_t>(high << 8 | low);                                    \
      asm(SM_SOFT_FLAGS_IN "mov %[w], %%ax\n\t" text "b %[d]\n\tmov %%ax, %[w]" SM_SOFT_FLAGS_OUT \
          : [w] "+&q"(word), "+&a"(flags.ax)                                                      \
          : [d] "q"(divisor)                                                                      \
          : "cc");                                                                                \
      low = static_cast<T>(word);                                                                 \
      high = static_cast<T>(word >> 8);                                                           \
    }                                                                                             \
    return {low, high};                                                                           \
  }
SM_SOFT_DIVIDE(div, "div")
SM_SOFT_DIVIDE(idiv, "idiv")
#undef SM_SOFT_DIVIDE

template <class T>
std::uint32_t crc32(std::uint32_t sum, T data) {
  std::uint64_t wide = sum;
  if constexpr (sizeof(T) == 8) {
    asm("crc32q %[s], %[d]" : [d] "+r"(wide) : [s] "r"(data));
  } else if constexpr (sizeof(T) == 4) {
    asm("crc32l %[s], %k[d]" : [d] "+r"(wide) : [s] "r"(data));
  } else if constexpr (sizeof(T) == 2) {
    asm("crc32w %[s], %k[d]" : [d] "+r"(wide) : [s] "r"(data));
  } else {
    asm("crc32b %[s], %k[d]" : [d] "+r"(wide) : [s] "q"(data));
  }
  return static_cast<std::uint32_t>(wide);
}

// Atomic accesses to guest memory that other vCPUs and devices use at the same time. Any alignment:
// the host's LOCK prefix works across cache lines as the guest's would.

// One attempt to replace `expected`; false puts what was there into `expected`.
template <class T>
bool compare_exchange(T* at, T& expected, T desired) {
  bool done = false;
  if constexpr (sizeof(T) == 16) {
    auto low = static_cast<std::uint64_t>(expected);
    auto high = static_cast<std::uint64_t>(expected >> 64);
    asm volatile("lock cmpxchg16b %[at]"
                 : [at] "+m"(*at), "+a"(low), "+d"(high), "=@ccz"(done)
                 : "b"(static_cast<std::uint64_t>(desired)),
                   "c"(static_cast<std::uint64_t>(desired >> 64))
                 : "memory");
    expected = static_cast<T>(high) << 64 | low;
  } else {
    asm volatile("lock cmpxchg %[desired], %[at]"
                 : [at] "+m"(*at), "+a"(expected), "=@ccz"(done)
                 : [desired] "q"(desired)
                 : "memory");
  }
  return done;
}

template <class T>
T exchange(T* at, T value) {
  asm volatile("xchg %[value], %[at]" : [at] "+m"(*at), [value] "+q"(value) : : "memory");
  return value;
}

#undef SM_SOFT_FLAGS_OUT
#undef SM_SOFT_FLAGS_IN

}  // namespace sm::soft::host
