// Instructions with an immediate byte: the host needs the byte inside the instruction, so there is
// one tiny function for each value, all of one size, made by the assembler. They follow the C
// calling convention: the destination's value comes in XMM0 and leaves in it, the source is XMM1.
//
// An array of functions from templates would do the same with 256 instantiations per instruction.
#pragma once

#include <emmintrin.h>

#include <cstdint>

namespace sm::soft {

// Declares the table `name` for the statements `text`, in which sm_imm stands for the value. Every
// function takes `slot` bytes, a power of two. At file scope, outside of any namespace.
#define SM_IMMEDIATE_TABLE(name, slot, text)                                        \
  extern "C" const char sm_soft_imm_##name[] __attribute__((visibility("hidden"))); \
  asm(".pushsection .text\n\t.balign " #slot                                        \
      "\n"                                                                          \
      "sm_soft_imm_" #name                                                          \
      ":\n\t.set sm_imm, 0\n\t.rept 256\n\t"                                        \
      ".balign " #slot "\n\t" text                                                  \
      "\n\tret\n\t.set sm_imm, sm_imm + 1\n\t.endr\n\t"                             \
      ".popsection");

// The function of one value in a table.
template <class Function>
Function* immediate_function(const char* table, unsigned slot, std::int64_t imm) {
  return reinterpret_cast<Function*>(
      reinterpret_cast<std::uintptr_t>(table + slot * static_cast<std::uint8_t>(imm)));
}

}  // namespace sm::soft
