// Runs one instruction in the software CPU: decoded already, on a memory of this test's that stands
// behind access.h.
// Thread: one per process.
#pragma once

#include <cstdint>

#include "tests/cpu/machine_state.h"
#include "vmm/cpu/soft/insn.h"

namespace sm::cpu_fuzz {

// By its semantic function, or by the handler of the block engine.
enum class Way : std::uint8_t { kSemantic, kBlock };

class Model {
 public:
  static void prepare(std::uint64_t fs_base, std::uint64_t gs_base);

  // False: the instruction wants something that the real CPU must not be asked for (see `why_not`);
  // memory may have changed all the same.
  static bool run(const soft::Insn& insn, std::uint32_t slot, const MachineState& before, Way way,
                  Outcome& outcome);

  // The model's bytes of [address, address + size), of one page, or null.
  static std::byte* bytes(std::uint64_t address, std::uint64_t size);
  // The writable pages: the model's are made as the real ones, or compared with them. The first
  // address that differs, or 0.
  static void copy_from_native();
  static std::uint64_t first_difference();
};

}  // namespace sm::cpu_fuzz
