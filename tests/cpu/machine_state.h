// What an instruction starts from and leaves, on the real CPU and in the model alike.
#pragma once

#include <array>
#include <cstdint>

#include "vmm/cpu/soft/cpu.h"

namespace sm::cpu_fuzz {

struct MachineState {
  std::array<std::uint64_t, 16> gpr{};
  std::uint64_t rip = 0;
  std::uint64_t rflags = 0x202;
  soft::FxState fx;
};

// rip of `after` is where execution goes on or, with `faulted`, the instruction.
struct Outcome {
  MachineState after;
  bool faulted = false;
  soft::Fault fault;
};

// Flags that the test sets and compares. IF is always 1 and IOPL 0 in a program.
inline constexpr std::uint64_t kComparedFlags =
    soft::eflags::kStatus | soft::eflags::kDf | soft::eflags::kAc | soft::eflags::kNt |
    soft::eflags::kId | soft::eflags::kIf | soft::eflags::kIopl;

}  // namespace sm::cpu_fuzz
