// PUSHF, single flags, SWAPGS and reading CR2: what kernels do at every entry, around locks and
// around copies from and to programs.
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "vmm/cpu/soft/fast/select.h"

namespace sm::soft::fast {

namespace {

const Uop* pushf(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::uint64_t top = cpu.gpr[kRsp] - kStackWord;
  std::byte* to = find_bytes(cpu.write_tlb, top, kStackWord);
  if (to == nullptr) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  constexpr std::uint64_t kNotPushed = eflags::kVm | eflags::kRf;
  store_to<std::uint64_t>(to, cpu.rflags() & ~kNotPushed);
  cpu.gpr[kRsp] = top;
  return go_on(cpu, uop, ahead);
}

bool may_change_interrupt_flag(const Cpu& cpu) { return cpu.cpl <= (cpu.other_flags >> 12 & 3); }

const Uop* cli(Cpu& cpu, const Uop* uop, Ahead ahead) {
  if (!may_change_interrupt_flag(cpu)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  cpu.other_flags &= ~eflags::kIf;
  return go_on(cpu, uop, ahead);
}

// The next instruction is the block's last, so it is over before anybody looks at the request, and
// then somebody does: that is the interrupt shadow.
const Uop* sti_inside(Cpu& cpu, const Uop* uop, Ahead ahead) {
  if (!may_change_interrupt_flag(cpu)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  if ((cpu.other_flags & eflags::kIf) == 0) {
    cpu.other_flags |= eflags::kIf;
    if (cpu.interrupt_waits) {
      cpu.attention.fetch_or(kAttentionInterrupt, std::memory_order_relaxed);
    }
  }
  return go_on(cpu, uop, ahead);
}

const Uop* cld(Cpu& cpu, const Uop* uop, Ahead ahead) {
  cpu.other_flags &= ~eflags::kDf;
  return go_on(cpu, uop, ahead);
}

// STAC and CLAC. No translation depends on the flag: accesses to user pages that it allows or
// forbids are slow cases. (At CPL 3, where it is about alignment, these instructions are not
// allowed.)
template <bool kValue>
const Uop* change_access_flag(Cpu& cpu, const Uop* uop, Ahead ahead) {
  if (cpu.cpl != 0) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  if constexpr (kValue) {
    cpu.other_flags |= eflags::kAc;
  } else {
    cpu.other_flags &= ~eflags::kAc;
  }
  return go_on(cpu, uop, ahead);
}

const Uop* swapgs(Cpu& cpu, const Uop* uop, Ahead ahead) {
  if (cpu.cpl != 0) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  std::swap(cpu.segment[static_cast<std::size_t>(Segment::kGs)].base, cpu.kernel_gs_base);
  return go_on(cpu, uop, ahead);
}

// The address of a page fault.
const Uop* read_cr2(Cpu& cpu, const Uop* uop, Ahead ahead) {
  if (cpu.cpl != 0) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  write_gpr_at(cpu, uop->dst, cpu.cr2);
  return go_on(cpu, uop, ahead);
}

Handler select_pushf(const Choice& choice) {
  return choice.insn.operand_size == 8 ? pushf : nullptr;
}
Handler select_mov_control(const Choice& choice) {
  const Operand& from = choice.insn.operand[1];
  return from.kind == OperandKind::kControl && from.reg == 2 ? read_cr2 : nullptr;
}
template <Handler kHandler>
Handler always(const Choice& /*choice*/) {
  return kHandler;
}

}  // namespace

Handler sti_handler() { return sti_inside; }

std::span<const SelectEntry> flag_selects() {
  static constexpr std::array kEntries = std::to_array<SelectEntry>({
      {Op::kPushf, select_pushf},
      {Op::kCli, always<cli>},
      {Op::kCld, always<cld>},
      {Op::kStac, always<change_access_flag<true>>},
      {Op::kClac, always<change_access_flag<false>>},
      {Op::kSwapgs, always<swapgs>},
      {Op::kMovControl, select_mov_control},
  });
  return kEntries;
}

}  // namespace sm::soft::fast
