// Single flags, and instructions without effect on the state: hints and fences.
#include <array>
#include <atomic>

#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/operand.h"

namespace sm::soft {

namespace {

Next lahf(Cpu& cpu, const Insn& /*insn*/) {
  write_gpr(cpu, kHighByteRegisters, static_cast<std::uint8_t>(cpu.status.eflags() | 2));
  return Next::kNext;
}

Next sahf(Cpu& cpu, const Insn& /*insn*/) {
  const std::uint32_t overflow = cpu.status.eflags() & eflags::kOf;
  cpu.status = StatusFlags::from_eflags(read_gpr<std::uint8_t>(cpu, kHighByteRegisters) | overflow);
  return Next::kNext;
}

Next cmc(Cpu& cpu, const Insn& /*insn*/) {
  cpu.status = with_flag(cpu.status, eflags::kCf, !cpu.status.cf());
  return Next::kNext;
}

template <bool kValue>
Next change_carry(Cpu& cpu, const Insn& /*insn*/) {
  cpu.status = with_flag(cpu.status, eflags::kCf, kValue);
  return Next::kNext;
}

Next cld(Cpu& cpu, const Insn& /*insn*/) {
  cpu.other_flags &= ~eflags::kDf;
  return Next::kNext;
}
Next std_(Cpu& cpu, const Insn& /*insn*/) {
  cpu.other_flags |= eflags::kDf;
  return Next::kNext;
}

Next salc(Cpu& cpu, const Insn& /*insn*/) {
  write_gpr(cpu, kRax, static_cast<std::uint8_t>(cpu.status.cf() ? 0xFF : 0));
  return Next::kNext;
}

Next nothing(Cpu& /*cpu*/, const Insn& /*insn*/) { return Next::kNext; }

// The guest's accesses are the host's, so its order is the host's as well. Only what lets a load
// pass an earlier store must be stopped.
Next mfence(Cpu& /*cpu*/, const Insn& /*insn*/) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return Next::kNext;
}

// There is no cache to write back, but the address is checked as for a load.
Next flush_line(Cpu& cpu, const Insn& insn) {
  std::uint8_t ignored = 0;
  return done(load_operand(cpu, insn, ignored));
}

}  // namespace

std::span<const SemanticEntry> flag_semantics() {
  static constexpr std::array kEntries = std::to_array<SemanticEntry>({
      {Op::kLahf, lahf},
      {Op::kSahf, sahf},
      {Op::kCmc, cmc},
      {Op::kClc, change_carry<false>},
      {Op::kStc, change_carry<true>},
      {Op::kCld, cld},
      {Op::kStd, std_},
      {Op::kSalc, salc},
      {Op::kNop, nothing},
      {Op::kPause, nothing},
      {Op::kPrefetch, nothing},
      {Op::kEndbr64, nothing},
      {Op::kLfence, nothing},
      {Op::kSfence, nothing},
      {Op::kMfence, mfence},
      {Op::kClflush, flush_line},
      {Op::kClflushopt, flush_line},
      {Op::kClwb, flush_line},
  });
  return kEntries;
}

}  // namespace sm::soft
