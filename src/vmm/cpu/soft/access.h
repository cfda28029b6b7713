// Memory as instructions see it: guest-virtual, with all checks of the current mode, or linear, for
// the tables the processor reads by itself. Fills the TLB on the way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

enum class Privilege : std::uint8_t {
  kCurrent,  // as the current CPL
  kSystem,   // as supervisor whatever the CPL is: descriptor tables, TSS, exception frames to CPL 0
};

// Linear address of `offset` in `segment`, checked as an access of `size` bytes in the current mode
// (limit, type, null selector; canonical form in 64-bit mode). False: Cpu::fault is set (#GP or
// #SS).
bool linear_address(Cpu& cpu, Segment segment, std::uint64_t offset, std::uint32_t size,
                    bool is_write, std::uint64_t& linear);

// Effective offset of an instruction's memory operand, truncated to its address size.
std::uint64_t effective_offset(const Cpu& cpu, const Insn& insn);

// Copies `size` bytes (1..512) from or to linear addresses; page crossings, MMIO and writes to code
// are dealt with. False: nothing was written, and Cpu::io waits for a device or Cpu::fault is set;
// the semantic function returns Next::kAborted.
bool load_linear(Cpu& cpu, std::uint64_t linear, void* out, std::uint32_t size,
                 Privilege privilege = Privilege::kCurrent);
bool store_linear(Cpu& cpu, std::uint64_t linear, const void* in, std::uint32_t size,
                  Privilege privilege = Privilege::kCurrent);
// Raises what a write would raise; changes nothing but A/D bits. For instructions that write twice.
bool check_write(Cpu& cpu, std::uint64_t linear, std::uint32_t size,
                 Privilege privilege = Privilege::kCurrent);

// The host's bytes of a piece of RAM inside one page, for string instructions; null when there is
// something about the access that only load_linear or store_linear deal with: a fault, a device, a
// write to code, a data breakpoint. May leave any value in Cpu::fault.
std::byte* host_for_run(Cpu& cpu, std::uint64_t linear, std::uint32_t size, bool is_write);

// The host's bytes of [linear, linear + size) for a locked operation, or null: Cpu::fault is set,
// or the bytes are not in one page of RAM and the operation runs with the machine stopped (see
// locked.h).
std::byte* host_for_atomic(Cpu& cpu, std::uint64_t linear, std::uint32_t size);

// A read or write of the instruction's own memory operand.
template <class T>
bool load_operand(Cpu& cpu, const Insn& insn, T& value) {
  std::uint64_t linear = 0;
  return linear_address(cpu, insn.segment, effective_offset(cpu, insn), sizeof(T), false, linear) &&
         load_linear(cpu, linear, &value, sizeof(T));
}
template <class T>
bool store_operand(Cpu& cpu, const Insn& insn, const T& value) {
  std::uint64_t linear = 0;
  return linear_address(cpu, insn.segment, effective_offset(cpu, insn), sizeof(T), true, linear) &&
         store_linear(cpu, linear, &value, sizeof(T));
}

// The fast path: the host's bytes when the TLB has the page and the access does not leave it.
inline std::byte* probe(const TlbEntry* tlb, std::uint64_t linear, std::uint32_t size) {
  const TlbEntry& entry = tlb[(linear >> 12) % kTlbEntries];
  const std::uint64_t offset = linear ^ entry.tag;
  return offset <= 4096 - size ? entry.host + offset : nullptr;
}

}  // namespace sm::soft
