// What the semantic functions call of the system part, as far as a program in 64-bit mode can see
// it. Privileged and segment operations are not in the fuzz test: they have no function here.
#include "vmm/cpu/soft/event/deliver.h"
#include "vmm/cpu/soft/event/flags.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/segments.h"
#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/locked.h"

namespace sm::soft {

std::span<const SemanticEntry> system_semantics() { return {}; }

// IOPL 0 and no bitmap.
bool check_io_permission(Cpu& cpu, std::uint16_t /*port*/, std::uint32_t /*size*/) {
  return refuse(cpu, vector::kProtection, 0);
}

std::uint32_t writable_flags(const Cpu& /*cpu*/, std::uint32_t operand_size) {
  const std::uint32_t word = eflags::kStatus | eflags::kTf | eflags::kDf | eflags::kNt;
  return operand_size == 2 ? word : word | eflags::kAc | eflags::kId;
}

void load_rflags(Cpu& cpu, std::uint64_t flags) { cpu.set_rflags(flags); }

bool load_segment(Cpu& cpu, Segment /*which*/, std::uint16_t /*selector*/) {
  return refuse(cpu, vector::kUndefined);
}

void begin_interrupt_shadow(Cpu& /*cpu*/, std::uint8_t /*kind*/) {}

Next software_interrupt(Cpu& cpu, std::uint8_t vector, std::uint64_t /*return_rip*/) {
  return raise(cpu, vector);
}

bool with_others_stopped(Cpu& /*cpu*/, const std::function<bool()>& work) { return work(); }

}  // namespace sm::soft
