// Makes cases: an instruction from the pools, and registers and memory that suit it.
// Thread: one per process, that of Native and Model: it writes to both memories.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tests/cpu/encoding.h"
#include "tests/cpu/machine_state.h"
#include "tests/cpu/random.h"
#include "vmm/cpu/soft/insn.h"

namespace sm::cpu_fuzz {

struct Case {
  std::array<std::uint8_t, 15> code{};
  std::uint32_t slot = 0;
  soft::Insn insn;
  MachineState before;
};

class Generator {
 public:
  // See collect_pools.
  Generator(std::string_view only, std::uint64_t seed);

  std::size_t operations() const { return pools_.size(); }

  // Begins a stretch of cases that depend on `seed` alone (and the constructor's): new memory, too.
  void begin(std::uint64_t seed);
  void next(Case& out);

 private:
  bool try_next(Case& out);
  void fill_memory();
  void fill_registers(Case& out);
  bool aim(Case& out, Text& text);
  void aim_register(Case& out, std::uint8_t reg, std::uint64_t value);
  void prepare_integer(Case& out);
  void prepare_pair(Case& out);
  void prepare_string(Case& out);
  void prepare_stack(Case& out);

  Random random_;
  std::vector<Pool> pools_;
  soft::FxState fx_;
  std::uint64_t target_ = 0;  // of the memory operand; 0 without
  std::uint32_t count_ = 0;
};

}  // namespace sm::cpu_fuzz
