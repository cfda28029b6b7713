// MXCSR of the guest, in force on the host while one floating-point instruction runs.
//
// Between instructions the host has its own MXCSR, which nearly always has the default control bits
// that nearly every guest has, too. Then nothing is loaded: the exception flags the host has are
// kept a subset of the guest's, and what it has afterwards is added to the guest's. Everything else
// (other rounding, DAZ, FTZ, unmasked exceptions) loads a value and restores the host's.
// The host never has an exception unmasked.
// Thread: the vCPU's. Spec: SDM vol. 1, 10.2.3 and 11.5; vol. 3, 6.15 (#XM).
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/exec/vector_common.h"

namespace sm::soft {

namespace mxcsr {
inline constexpr std::uint32_t kInvalid = 1u << 0, kDenormal = 1u << 1, kZeroDivide = 1u << 2,
                               kOverflow = 1u << 3, kUnderflow = 1u << 4, kPrecision = 1u << 5,
                               kFlags = 0x3F, kDaz = 1u << 6, kMasks = 0x3Fu << 7,
                               kFlushToZero = 1u << 15, kDefault = kMasks, kValid = 0xFFFF;
}  // namespace mxcsr

// Where the results of an operation are in its destination that can be too small to represent: an
// unmasked underflow is one even when the result is exact, which no flag of the host says.
enum class TinyResults : std::uint8_t { kNone, kSingle, kSingles, kTwoSingles, kDouble, kDoubles };

inline std::uint32_t read_mxcsr() {
  std::uint32_t value = 0;
  asm volatile("stmxcsr %0" : "=m"(value) : : "memory");
  return value;
}
inline void write_mxcsr(std::uint32_t value) {
  asm volatile("ldmxcsr %0" : : "m"(value) : "memory");
}

// What to load for the guest's value when it is not the default.
std::uint32_t host_mxcsr_for(std::uint32_t guest);
// After such an operation: merges the flags it raised into the guest's. False: an unmasked one
// stops the instruction, and the fault is set.
bool finish_float(Cpu& cpu, std::uint32_t raised, TinyResults tiny, Vec result);

// Calls run(), which executes one instruction as a volatile asm statement and leaves its result,
// if it is a vector, in `result`. False: #XM; the result is not to be committed.
template <class Run>
[[gnu::always_inline]] inline bool run_float(Cpu& cpu, TinyResults tiny, const Vec& result,
                                             Run&& run) {
  const std::uint32_t guest = cpu.fx.mxcsr;
  const std::uint32_t host = read_mxcsr();
  if (((guest ^ mxcsr::kDefault) & ~mxcsr::kFlags) == 0 &&
      ((host ^ guest) & ~(guest & mxcsr::kFlags)) == 0) [[likely]] {
    run();
    cpu.fx.mxcsr = guest | (read_mxcsr() & mxcsr::kFlags);
    return true;
  }
  write_mxcsr(host_mxcsr_for(guest));
  run();
  const std::uint32_t raised = read_mxcsr() & mxcsr::kFlags;
  write_mxcsr(host & ~mxcsr::kFlags);
  return finish_float(cpu, raised, tiny, result);
}

}  // namespace sm::soft
