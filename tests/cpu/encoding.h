// Encodings of all operations that the fuzz test runs: found by asking the decoder about every
// combination of prefix, map, opcode and ModRM.reg.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tests/cpu/random.h"
#include "vmm/cpu/soft/insn.h"

namespace sm::cpu_fuzz {

// What belongs to which group of semantic functions; kNone has no function or cannot be run in a
// program of this host.
enum class Group : std::uint8_t { kNone, kInteger, kVector, kX87 };
Group group_of(soft::Op op);

// An encoding but for optional prefixes, the rest of ModRM, displacement and immediate.
struct Form {
  std::uint8_t prefix = 0;  // 66, F3, F2 or 0
  std::uint8_t map = 0;     // 0: none, 1: 0F, 2: 0F 38, 3: 0F 3A
  std::uint8_t opcode = 0;
  std::uint8_t reg = 0;
  bool in_memory = false;
};

struct Pool {
  soft::Op op;
  Group group;
  std::vector<Form> forms;
};

// Bytes of an instruction with random ones behind it.
struct Text {
  std::array<std::uint8_t, 48> bytes{};
  std::size_t size = 0;
  std::size_t after_opcode = 0;  // where ModRM stands, if there is one
  void add(std::uint64_t byte) { bytes[size++] = static_cast<std::uint8_t>(byte); }
};
Text compose(const Form& form, Random& random);

// `only`: mnemonics (without case) or "integer", "vector", "x87", separated by commas; empty for
// all.
std::vector<Pool> collect_pools(std::string_view only, Random& random);

}  // namespace sm::cpu_fuzz
