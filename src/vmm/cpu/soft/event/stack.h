// Frames on stacks: what events, far calls and returns push and pop, all or nothing.
// Thread: the vCPU's own. Spec: SDM vol. 1, 6.2; vol. 3, 6.12 to 6.14.
#pragma once

#include <array>
#include <cstdint>

#include "vmm/cpu/soft/access.h"
#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

// A stack to push on, perhaps not yet the current one.
struct StackTarget {
  SegmentRegister ss;
  std::uint64_t pointer = 0;
  bool is_64bit = false;         // flat, canonical addresses
  std::uint8_t cpl = 0;          // with whose rights
  std::uint32_t error_code = 0;  // of the #SS of a stack that is too small
};
// The current one, as code of the current mode sees it.
StackTarget current_stack(const Cpu& cpu);

// Values of one size that are written together.
class PushFrame {
 public:
  PushFrame(const StackTarget& stack, std::uint32_t value_size)
      : stack_(stack), value_size_(value_size) {}

  void push(std::uint64_t value);
  // Nothing is written unless all of it can be. False: #SS, #PF or a device.
  bool write(Cpu& cpu) const;
  // The stack pointer after it, of the stack's width.
  std::uint64_t pointer() const;

 private:
  // A call gate's frame of 31 parameters of four bytes is the largest.
  static constexpr std::uint32_t kCapacity = 160;
  bool write_run(Cpu& cpu, std::uint64_t offset, std::uint32_t skip, std::uint32_t size,
                 bool only_check) const;
  std::uint64_t mask() const;

  StackTarget stack_;
  std::uint32_t value_size_;
  std::uint32_t used_ = 0;  // grows down from the end of bytes_
  std::array<std::uint8_t, kCapacity> bytes_{};
};

// Pops from the current stack without moving its pointer.
class PopFrame {
 public:
  PopFrame(const Cpu& cpu, std::uint32_t value_size)
      : value_size_(value_size), pointer_(cpu.gpr[kRsp]) {}

  // Reads `count` values, at most 8. False: #SS, #PF or a device.
  bool pop(Cpu& cpu, std::uint64_t* values, std::uint32_t count);
  void skip(std::uint64_t bytes) { pointer_ += bytes; }
  std::uint64_t pointer() const { return pointer_; }

 private:
  std::uint32_t value_size_;
  std::uint64_t pointer_;
};

// Writes RSP, ESP or SP, as the current CS and SS say.
void set_stack_pointer(Cpu& cpu, std::uint64_t value);

}  // namespace sm::soft
