#include "vmm/cpu/soft/exec/x87_general.h"

#include <array>

#include "vmm/cpu/soft/access.h"
#include "vmm/cpu/soft/exec/x87_host.h"

namespace sm::soft {

namespace {

// The x87 part of FxState: everything before MXCSR, and the registers.
void copy_x87(FxState& to, const FxState& from) {
  to.control = from.control;
  to.status = from.status;
  to.abridged_tag = from.abridged_tag;
  to.st = from.st;
}

// The 11 bits of the opcode that FOP keeps, from the instruction's bytes: Insn does not have them.
// What cannot be read again is left as it was.
std::uint16_t opcode_bits(Cpu& cpu, const Insn& insn) {
  std::array<std::uint8_t, 16> bytes{};
  const SegmentRegister& code = cpu.segment[static_cast<unsigned>(Segment::kCs)];
  const std::uint64_t linear = cpu.rip + (cpu.mode == CodeMode::k64 ? 0 : code.base);
  if (insn.length > 15 || !load_linear(cpu, linear, bytes.data(), insn.length)) {
    return cpu.fx.opcode;
  }
  for (unsigned i = 0; i + 1 < insn.length; ++i) {
    if ((bytes[i] & 0xF8) == 0xD8) {  // none of the prefixes looks like that
      return static_cast<std::uint16_t>(((bytes[i] & 7u) << 8) | bytes[i + 1]);
    }
  }
  return cpu.fx.opcode;
}

// The memory operand of one instruction.
struct Memory {
  std::uint32_t size = 0;  // 0 = none
  bool stores = false;
  std::uint64_t offset = 0;
  std::uint64_t linear = 0;
  std::array<std::uint8_t, 16> bytes{};
};

bool open_memory(Cpu& cpu, const Insn& insn, Memory& memory) {
  const int index = x87_memory_operand(insn);
  if (index < 0) {
    return true;
  }
  memory.size = insn.operand[static_cast<unsigned>(index)].size;
  memory.stores = x87_form(insn.op).stores;
  memory.offset = effective_offset(cpu, insn);
  if (memory.size > memory.bytes.size()) {
    memory.size = static_cast<std::uint32_t>(memory.bytes.size());
  }
  return memory.stores ||
         (linear_address(cpu, insn.segment, memory.offset, memory.size, false, memory.linear) &&
          load_linear(cpu, memory.linear, memory.bytes.data(), memory.size));
}

// A store happens unless an unmasked exception other than inexactness keeps it from doing so; then
// not even the address is checked.
bool close_memory(Cpu& cpu, const Insn& insn, Memory& memory, unsigned unmasked) {
  if (!memory.stores || (unmasked & ~static_cast<unsigned>(x87::kPrecision)) != 0) {
    return true;
  }
  return linear_address(cpu, insn.segment, memory.offset, memory.size, true, memory.linear) &&
         store_linear(cpu, memory.linear, memory.bytes.data(), memory.size);
}

}  // namespace

Next x87_general(Cpu& cpu, const Insn& insn) {
  Memory memory;
  if (!x87_ready(cpu) || !open_memory(cpu, insn, memory)) {
    return Next::kAborted;
  }
  FxState image;
  copy_x87(image, cpu.fx);
  const StatusFlags flags = x87_execute(insn, image, memory.bytes.data(), cpu.status);
  const unsigned unmasked = image.status & ~image.control & x87::kExceptions & 0xFFFFu;
  if (!close_memory(cpu, insn, memory, unmasked)) {
    return Next::kAborted;
  }
  if (unmasked != 0) {
    cpu.fx.opcode = opcode_bits(cpu, insn);
    if (memory.size != 0) {
      cpu.fx.data_pointer = memory.offset;
    }
  }
  copy_x87(cpu.fx, image);
  cpu.status = flags;
  x87_record_instruction(cpu);
  return Next::kNext;
}

}  // namespace sm::soft
