// Semantic functions: what each instruction does, one function per operation, for every mode and
// operand form. They are the readable reference of the software CPU: the translator's specialised
// handlers do the same faster for the common forms and fall back to these for everything else.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/insn.h"

namespace sm::soft {

enum class Next : std::uint8_t {
  kNext,     // done; Cpu::rip moves behind the instruction
  kJump,     // done; the function has set Cpu::rip (and nothing of the old code stream is valid)
  kRepeat,   // a part of a string instruction is done and the registers say so; Cpu::rip stays
  kAborted,  // nothing has happened: Cpu::io waits for a device or, if not, Cpu::fault is to be
             // delivered at Cpu::rip
};

// Cpu::rip is the instruction's address while it runs. A function checks everything that can fault
// before it changes anything.
using Semantic = Next (*)(Cpu& cpu, const Insn& insn);

// The functions by operation; none is null (what is not implemented raises #UD). Filled before
// main().
using SemanticTable = std::array<Semantic, static_cast<std::size_t>(Op::kCount)>;
extern const SemanticTable kSemantics;
inline Semantic semantic_of(Op op) { return kSemantics[static_cast<std::size_t>(op)]; }
inline Next perform(Cpu& cpu, const Insn& insn) { return semantic_of(insn.op)(cpu, insn); }

// Records a fault; `return raise(...)` ends a semantic function.
inline Next raise(Cpu& cpu, std::uint8_t vector) {
  cpu.fault = {.vector = vector};
  return Next::kAborted;
}
inline Next raise(Cpu& cpu, std::uint8_t vector, std::uint32_t error_code) {
  cpu.fault = {.vector = vector, .has_error_code = true, .error_code = error_code};
  return Next::kAborted;
}

// Exception vectors. Spec: SDM vol. 3, table 6-1.
namespace vector {
inline constexpr std::uint8_t kDivide = 0, kDebug = 1, kNmi = 2, kBreakpoint = 3, kOverflow = 4,
                              kBound = 5, kUndefined = 6, kNoMath = 7, kDoubleFault = 8,
                              kInvalidTss = 10, kSegmentNotPresent = 11, kStack = 12,
                              kProtection = 13, kPage = 14, kMath = 16, kAlignment = 17,
                              kMachineCheck = 18, kSimd = 19;
}

// Each group's functions, by its own file; semantic.cc joins them.
struct SemanticEntry {
  Op op;
  Semantic function;
};

}  // namespace sm::soft
