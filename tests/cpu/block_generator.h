// Random programs for comparing the two ways to execute: instructions of all operations, more of
// those that have handlers, with operands that mostly reach memory and branches between them.
// Thread: one per object.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tests/cpu/encoding.h"
#include "tests/cpu/random.h"
#include "vmm/cpu/soft/cpu.h"

namespace sm::cpu_test {

// Virtual memory of the programs. Code pages can be written to through kCodeAlias as well.
inline constexpr std::uint64_t kPageBytes = 4096;
inline constexpr std::uint64_t kCodeBase = 0x400000, kCodePages = 3;
inline constexpr std::uint64_t kDataBase = 0x500000, kDataPages = 8;
inline constexpr std::uint64_t kCodeAlias = 0x600000;

struct Program {
  std::uint64_t start = 0;  // in [kCodeBase, ...)
  std::vector<std::uint8_t> bytes;
  std::vector<std::uint64_t> starts;  // of its instructions
};

class BlockGenerator {
 public:
  explicit BlockGenerator(cpu_fuzz::Random& random);
  void next(Program& out);
  void fill_registers(soft::Cpu& cpu);

 private:
  using Bytes = std::vector<std::uint8_t>;
  Bytes any_instruction();
  bool suits(const soft::Insn& insn);
  Bytes branch(std::uint64_t from, std::uint64_t to);
  Bytes fused_pair(std::uint64_t from, std::uint64_t to);
  Bytes return_pair();

  cpu_fuzz::Random& random_;
  std::vector<cpu_fuzz::Pool> all_;
  std::vector<cpu_fuzz::Pool> common_;
};

}  // namespace sm::cpu_test
