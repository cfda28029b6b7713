// Single x87 instructions of the host, on values in memory: what the quick handlers are made of.
// Each leaves the host's x87 registers empty again and returns its status word after the
// instruction; conversions to and from the extended format around it raise nothing.
// To be used inside an X87HostScope.
#pragma once

#include <array>
#include <cstdint>

#include "vmm/cpu/soft/cpu.h"

namespace sm::soft::x87_host {

using Register = std::array<std::uint8_t, 16>;  // 10 bytes of value
using Status = std::uint16_t;

#define SM_X87_CLOBBERS "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"

// value = value OP source, of two registers or a register and 2, 4 or 8 bytes of memory.
#define SM_ARITHMETIC(name, text, integer_text)                                  \
  struct name {                                                                  \
    static Status registers(Register& value, const Register& source) {           \
      Status status = 0;                                                         \
      asm volatile("fldt %[s]\n\tfldt %[v]\n\t" text                             \
                   " %%st(1), %%st\n\tfnstsw %%ax\n\tfstpt %[v]\n\tfstp %%st(0)" \
                   : [v] "+m"(value), "=&a"(status)                              \
                   : [s] "m"(source)                                             \
                   : SM_X87_CLOBBERS);                                           \
      return status;                                                             \
    }                                                                            \
    SM_ARITHMETIC_MEMORY(m32, text "s")                                          \
    SM_ARITHMETIC_MEMORY(m64, text "l")                                          \
    SM_ARITHMETIC_MEMORY(i16, integer_text "s")                                  \
    SM_ARITHMETIC_MEMORY(i32, integer_text "l")                                  \
  };
#define SM_ARITHMETIC_MEMORY(form, text)                                   \
  static Status form(Register& value, const std::uint64_t& source) {       \
    Status status = 0;                                                     \
    asm volatile("fldt %[v]\n\t" text " %[s]\n\tfnstsw %%ax\n\tfstpt %[v]" \
                 : [v] "+m"(value), "=&a"(status)                          \
                 : [s] "m"(source)                                         \
                 : SM_X87_CLOBBERS);                                       \
    return status;                                                         \
  }
// Comparisons leave condition codes instead of a value; the I ones leave them in the arithmetic
// flags.
#define SM_COMPARISON(name, text)                                          \
  inline Status name(const Register& first, const Register& second) {      \
    Status status = 0;                                                     \
    asm volatile("fldt %[s]\n\tfldt %[f]\n\t" text                         \
                 " %%st(1)\n\tfnstsw %%ax\n\tfstp %%st(0)\n\tfstp %%st(0)" \
                 : "=&a"(status)                                           \
                 : [f] "m"(first), [s] "m"(second)                         \
                 : SM_X87_CLOBBERS);                                       \
    return status;                                                         \
  }
#define SM_COMPARISON_FLAGS(name, text)                                                   \
  inline Status name(const Register& first, const Register& second, StatusFlags& flags) { \
    Status status = 0;                                                                    \
    asm volatile("fldt %[s]\n\tfldt %[f]\n\t" text                                        \
                 " %%st(1), %%st\n\tlahf\n\tmovb $0, %%al\n\tmovw %%ax, %[x]\n\t"         \
                 "fnstsw %%ax\n\tfstp %%st(0)\n\tfstp %%st(0)"                            \
                 : [x] "=m"(flags.ax), "=&a"(status)                                      \
                 : [f] "m"(first), [s] "m"(second)                                        \
                 : SM_X87_CLOBBERS, "cc");                                                \
    return status;                                                                        \
  }
#define SM_COMPARISON_MEMORY(name, text)                                     \
  inline Status name(const Register& first, const std::uint64_t& second) {   \
    Status status = 0;                                                       \
    asm volatile("fldt %[f]\n\t" text " %[s]\n\tfnstsw %%ax\n\tfstp %%st(0)" \
                 : "=&a"(status)                                             \
                 : [f] "m"(first), [s] "m"(second)                           \
                 : SM_X87_CLOBBERS);                                         \
    return status;                                                           \
  }
// A number in memory to a register, and back with rounding.
#define SM_LOAD(name, text)                                          \
  inline Status name(Register& value, const std::uint64_t& source) { \
    Status status = 0;                                               \
    asm volatile(text " %[s]\n\tfnstsw %%ax\n\tfstpt %[v]"           \
                 : [v] "=m"(value), "=&a"(status)                    \
                 : [s] "m"(source)                                   \
                 : SM_X87_CLOBBERS);                                 \
    return status;                                                   \
  }
#define SM_STORE(name, text)                                              \
  inline Status name(const Register& value, std::uint64_t& destination) { \
    Status status = 0;                                                    \
    asm volatile("fldt %[v]\n\t" text " %[d]\n\tfnstsw %%ax"              \
                 : [d] "+m"(destination), "=&a"(status)                   \
                 : [v] "m"(value)                                         \
                 : SM_X87_CLOBBERS);                                      \
    return status;                                                        \
  }
// st(0) = f(st(0)), and constants.
#define SM_UNARY(name, text)                                            \
  struct name {                                                         \
    static Status run(Register& value) {                                \
      Status status = 0;                                                \
      asm volatile("fldt %[v]\n\t" text "\n\tfnstsw %%ax\n\tfstpt %[v]" \
                   : [v] "+m"(value), "=&a"(status)                     \
                   :                                                    \
                   : SM_X87_CLOBBERS);                                  \
      return status;                                                    \
    }                                                                   \
  };
#define SM_CONSTANT(name, text)                                                  \
  struct name {                                                                  \
    static void run(Register& value) {                                           \
      asm volatile(text "\n\tfstpt %[v]" : [v] "=m"(value) : : SM_X87_CLOBBERS); \
    }                                                                            \
  };

SM_ARITHMETIC(Add, "fadd", "fiadd")
SM_ARITHMETIC(Mul, "fmul", "fimul")
SM_ARITHMETIC(Sub, "fsub", "fisub")
SM_ARITHMETIC(Subr, "fsubr", "fisubr")
SM_ARITHMETIC(Div, "fdiv", "fidiv")
SM_ARITHMETIC(Divr, "fdivr", "fidivr")
SM_COMPARISON(fcom, "fcom")
SM_COMPARISON(fucom, "fucom")
SM_COMPARISON_FLAGS(fcomi, "fcomi")
SM_COMPARISON_FLAGS(fucomi, "fucomi")
SM_COMPARISON_MEMORY(fcom32, "fcoms")
SM_COMPARISON_MEMORY(fcom64, "fcoml")
SM_LOAD(fld32, "flds")
SM_LOAD(fld64, "fldl")
SM_LOAD(fild16, "filds")
SM_LOAD(fild32, "fildl")
SM_LOAD(fild64, "fildll")
SM_STORE(fstp32, "fstps")
SM_STORE(fstp64, "fstpl")
SM_STORE(fistp16, "fistps")
SM_STORE(fistp32, "fistpl")
SM_STORE(fistp64, "fistpll")
SM_STORE(fisttp16, "fisttps")
SM_STORE(fisttp32, "fisttpl")
SM_STORE(fisttp64, "fisttpll")
SM_UNARY(Sqrt, "fsqrt")
SM_UNARY(Rndint, "frndint")
SM_CONSTANT(One, "fld1")
SM_CONSTANT(Zero, "fldz")
SM_CONSTANT(L2t, "fldl2t")
SM_CONSTANT(L2e, "fldl2e")
SM_CONSTANT(Pi, "fldpi")
SM_CONSTANT(Lg2, "fldlg2")
SM_CONSTANT(Ln2, "fldln2")

#undef SM_ARITHMETIC
#undef SM_ARITHMETIC_MEMORY
#undef SM_COMPARISON
#undef SM_COMPARISON_FLAGS
#undef SM_COMPARISON_MEMORY
#undef SM_LOAD
#undef SM_STORE
#undef SM_UNARY
#undef SM_CONSTANT
#undef SM_X87_CLOBBERS

}  // namespace sm::soft::x87_host
