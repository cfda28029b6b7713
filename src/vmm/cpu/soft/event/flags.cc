#include "vmm/cpu/soft/event/flags.h"

#include "vmm/cpu/soft/event/debug.h"
#include "vmm/cpu/soft/event/mmu_calls.h"
#include "vmm/cpu/soft/event/permission.h"

namespace sm::soft {

std::uint32_t writable_flags(const Cpu& cpu, std::uint32_t operand_size) {
  std::uint32_t mask = eflags::kStatus | eflags::kTf | eflags::kDf | eflags::kNt;
  if (operand_size != 2) mask |= eflags::kAc | eflags::kId;
  if (cpu.cpl <= io_privilege(cpu) || !protected_mode(cpu)) mask |= eflags::kIf;
  if (cpu.cpl == 0) mask |= eflags::kIopl;
  return mask;
}

void load_rflags(Cpu& cpu, std::uint64_t flags) {
  const std::uint32_t old = cpu.other_flags;
  // RF only means something to instruction breakpoints. Without one it would just have to be taken
  // away again after the next instruction.
  if (!breakpoints_armed(cpu)) flags &= ~std::uint64_t{eflags::kRf};
  cpu.set_rflags(flags & kLoadableFlags);
  const std::uint32_t now = cpu.other_flags;
  if (((old ^ now) & eflags::kAc) != 0) access_flag_changed(cpu);
  if ((now & (eflags::kTf | eflags::kRf)) != 0) request_attention(cpu, kAttentionSingle);
  if ((now & ~old & eflags::kIf) != 0 && cpu.interrupt_waits) {
    request_attention(cpu, kAttentionInterrupt);
  }
}

void request_attention(Cpu& cpu, std::uint32_t bits) {
  if ((cpu.attention.load(std::memory_order_relaxed) & bits) != bits) {
    cpu.attention.fetch_or(bits, std::memory_order_relaxed);
  }
}

void begin_interrupt_shadow(Cpu& cpu, std::uint8_t kind) {
  cpu.interrupt_shadow = kind;
  request_attention(cpu, kAttentionSingle);
}

}  // namespace sm::soft
