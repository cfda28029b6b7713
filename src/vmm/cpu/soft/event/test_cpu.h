// TestCpu: a Cpu with a memory of its own behind access.h, for tests of events and system
// instructions. Linear addresses are addresses of the memory, wrapped at its size; pages can be
// made absent, read-only or a device. The calls to the MMU and the platform are written down.
// Only for tests; one thread.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/event/descriptor.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

struct TestCpu : Cpu {
  TestCpu();

  // ---- Memory
  static constexpr std::uint64_t kSize = 1u << 18;
  std::vector<std::uint8_t> ram = std::vector<std::uint8_t>(kSize);
  std::set<std::uint64_t> absent, read_only, device;  // page numbers

  template <class T>
  T peek(std::uint64_t at) const {
    T value;
    std::memcpy(&value, ram.data() + at % kSize, sizeof value);
    return value;
  }
  template <class T>
  void poke(std::uint64_t at, T value) {
    std::memcpy(ram.data() + at % kSize, &value, sizeof value);
  }

  // ---- Instructions
  // Puts `text` at CS:RIP and executes one instruction of it. After kNext RIP has moved.
  Next step(std::initializer_list<std::uint8_t> text);
  // The same, and a fault is delivered.
  Next step_and_deliver(std::initializer_list<std::uint8_t> text);

  SegmentRegister& reg(Segment which) { return segment[static_cast<std::size_t>(which)]; }

  // ---- What was called
  std::vector<std::string> calls;
  bool pae_pointers_valid = true;
  bool called(const std::string& what) const;
  std::map<std::uint32_t, std::uint64_t> platform_msrs;
  std::uint64_t task_priority = 0;
};

// ---- Descriptors, written out
// ---------------------------------------------------------------------

// Code and data of 4 GiB, base 0.
inline constexpr std::uint64_t kCode64 = 0x00AF9B000000FFFF, kCode32 = 0x00CF9B000000FFFF,
                               kCode16 = 0x00009B000000FFFF, kData = 0x00CF93000000FFFF,
                               kData16 = 0x000093000000FFFF;
inline constexpr std::uint64_t kConforming = 1ull << 42, kNotPresent = 1ull << 47,
                               kAccessedBit = 1ull << 40;
inline constexpr std::uint64_t with_dpl(std::uint64_t descriptor, std::uint64_t dpl) {
  return (descriptor & ~(3ull << 45)) | dpl << 45;
}
// The first half; the second is base >> 32.
constexpr std::uint64_t system_descriptor(SystemType type, std::uint64_t base, std::uint64_t limit,
                                          std::uint64_t dpl = 0) {
  return (limit & 0xFFFF) | (base & 0xFFFFFF) << 16 | static_cast<std::uint64_t>(type) << 40 |
         dpl << 45 | 1ull << 47 | ((limit >> 16) & 0xF) << 48 | ((base >> 24) & 0xFF) << 56;
}
// The first half; the second is offset >> 32. `extra`: IST or the number of parameters.
constexpr std::uint64_t gate_descriptor(SystemType type, std::uint16_t selector,
                                        std::uint64_t offset, std::uint64_t dpl = 0,
                                        std::uint64_t extra = 0) {
  return (offset & 0xFFFF) | std::uint64_t{selector} << 16 | extra << 32 |
         static_cast<std::uint64_t>(type) << 40 | dpl << 45 | 1ull << 47 |
         ((offset >> 16) & 0xFFFF) << 48;
}

// ---- A kernel's tables
// ----------------------------------------------------------------------------

namespace place {
inline constexpr std::uint64_t kGdt = 0x1000, kIdt = 0x2000, kTss = 0x3000, kLdt = 0x3800,
                               kKernelStack = 0x8000, kInterruptStack = 0xA000, kUserStack = 0xC000,
                               kKernelCode = 0x10000, kUserCode = 0x20000,
                               kHandlers = 0x30000;  // vector n at + n * 16
}
namespace selector {
// In SYSCALL's order.
inline constexpr std::uint16_t kKernelCode = 0x10, kKernelData = 0x18, kUserCode32 = 0x23,
                               kUserData = 0x2B, kUserCode = 0x33, kTss = 0x40,
                               kConformingCode = 0x50, kNotPresentCode = 0x58, kCallGate = 0x60,
                               kKernelCode32 = 0x70, kNotPresentData = 0x78, kRing1Data = 0x81,
                               kReadOnlyData = 0x88, kCode16 = 0x90, kData16 = 0x98, kLast = 0xF8;
}  // namespace selector

// Long mode, CPL 0, with GDT, IDT of interrupt gates, TSS; RSP0 and IST1 as in `place`.
void enter_long_mode(TestCpu& cpu);
// Protected mode of 32 bits with the same places and selectors.
void enter_protected_mode(TestCpu& cpu);
// The user's code segment (64 or 32 bits by the mode), stack and CPL 3.
void enter_user(TestCpu& cpu);

constexpr std::uint64_t handler_of(std::uint8_t vector) { return place::kHandlers + vector * 16u; }
// Replaces a gate.
void set_gate(TestCpu& cpu, std::uint8_t vector, std::uint64_t first_half,
              std::uint64_t second_half = 0);

}  // namespace sm::soft
