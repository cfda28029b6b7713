// The stack as instructions see it: width by the code mode and SS, pushes and pops of one value.
// Thread: the vCPU's own. Spec: SDM vol. 1, 6.2.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/exec/operand.h"

namespace sm::soft {

// Bytes of the stack pointer: 8 in 64-bit mode, otherwise as SS says.
inline std::uint8_t stack_width(const Cpu& cpu) {
  if (cpu.mode == CodeMode::k64) return 8;
  const SegmentRegister& ss = cpu.segment[static_cast<std::size_t>(Segment::kSs)];
  constexpr std::uint16_t kBig = 1u << 14;
  return (ss.attributes & kBig) != 0 ? 4 : 2;
}

// Moves an offset within the stack segment, wrapping as the stack pointer does.
inline std::uint64_t stack_offset(const Cpu& cpu, std::uint64_t from, std::uint64_t delta) {
  return (from + delta) & address_mask(stack_width(cpu));
}

// Changes the stack pointer (or what is to become it) within its width.
inline std::uint64_t moved_stack_pointer(const Cpu& cpu, std::uint64_t from, std::uint64_t delta) {
  const std::uint64_t mask = address_mask(stack_width(cpu));
  return (from & ~mask) | ((from + delta) & mask);
}

template <class T>
bool load_stack(Cpu& cpu, std::uint64_t offset, T& value) {
  std::uint64_t linear = 0;
  return linear_address(cpu, Segment::kSs, offset, sizeof(T), false, linear) &&
         load_linear(cpu, linear, &value, sizeof(T));
}
template <class T>
bool store_stack(Cpu& cpu, std::uint64_t offset, T value) {
  std::uint64_t linear = 0;
  return linear_address(cpu, Segment::kSs, offset, sizeof(T), true, linear) &&
         store_linear(cpu, linear, &value, sizeof(T));
}
inline bool check_stack_write(Cpu& cpu, std::uint64_t offset, std::uint32_t size) {
  std::uint64_t linear = 0;
  return linear_address(cpu, Segment::kSs, offset, size, true, linear) &&
         check_write(cpu, linear, size);
}

template <class T>
bool push_value(Cpu& cpu, T value) {
  const auto delta = static_cast<std::uint64_t>(-static_cast<std::int64_t>(sizeof(T)));
  if (!store_stack<T>(cpu, stack_offset(cpu, cpu.gpr[kRsp], delta), value)) return false;
  cpu.gpr[kRsp] = moved_stack_pointer(cpu, cpu.gpr[kRsp], delta);
  return true;
}
// Reads the top of the stack and leaves the pointer to the caller, who may still fail.
template <class T>
bool load_top(Cpu& cpu, T& value) {
  return load_stack(cpu, stack_offset(cpu, cpu.gpr[kRsp], 0), value);
}
inline void release_stack(Cpu& cpu, std::uint64_t bytes) {
  cpu.gpr[kRsp] = moved_stack_pointer(cpu, cpu.gpr[kRsp], bytes);
}

}  // namespace sm::soft
