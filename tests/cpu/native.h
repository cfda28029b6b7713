// Runs one instruction on the real CPU with a given state. It is entered by loading all registers
// and left by a jump that follows it, or by a signal: 0.2 us, or 2 us for one that faults.
// Thread: one per process; the process is expendable, since an instruction may do what the model
// did not foresee.
#pragma once

#include <cstdint>
#include <span>

#include "tests/cpu/machine_state.h"

namespace sm::cpu_fuzz {

class Native {
 public:
  // Maps the sandbox and takes over SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGTRAP. False: errno.
  static bool prepare();
  // Whether the read-only pages are; they are not while they are filled.
  static void protect(bool read_only);

  // Puts an instruction into a slot of the code page, then runs it.
  static void place(std::span<const std::uint8_t> code, std::uint32_t slot);
  static void run(std::uint32_t length, std::uint32_t slot, const MachineState& before,
                  Outcome& outcome);

  // Bases of FS (the C library's) and GS (ours, inside the sandbox).
  static std::uint64_t fs_base();
  static std::uint64_t gs_base();
};

}  // namespace sm::cpu_fuzz
