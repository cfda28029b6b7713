// IntegerCpu: TestCpu for the integer instructions, with a TLB and locked accesses.
// Only for tests; one thread per object.
#pragma once

#include <initializer_list>

#include "vmm/cpu/soft/event/test_cpu.h"
#include "vmm/cpu/soft/insn.h"

namespace sm::soft {

struct IntegerCpu : TestCpu {
  IntegerCpu();

  // Decodes and executes one instruction at CS:RIP. After kNext RIP has moved.
  Next run(std::initializer_list<std::uint8_t> text);
  // Until it is over, with every look at interrupts counted in `looks`.
  Next run_to_end(std::initializer_list<std::uint8_t> text);

  // Translations of all pages that are RAM; without this call there are none.
  void fill_tlb();

  void set(Gpr reg, std::uint64_t value) { gpr[reg] = value; }
  bool flag(std::uint32_t mask) const { return (rflags() & mask) != 0; }

  std::uint32_t looks = 0;
  // What locked operations get: these bytes instead of `ram`, or nothing.
  std::byte* shared = nullptr;
  bool refuse_atomic = false;
  std::uint32_t stops = 0;  // of other vCPUs

  std::vector<TlbEntry> read_entries, write_entries;
};

// Real mode, and protected mode with 16-bit code and stack, at offset 0x1000 of base 0.
void enter_16bit_protected_mode(IntegerCpu& cpu);

}  // namespace sm::soft
