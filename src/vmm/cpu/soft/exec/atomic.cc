// Exchanges: XCHG, XADD and the compare-and-exchange family. Locked forms, and XCHG with memory
// always, are one atomic step on the host's memory.
#include <array>

#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/operand.h"

namespace sm::soft {

namespace {

Next xchg(Cpu& cpu, const Insn& insn) {
  return by_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    const std::size_t memory = insn.operand[1].kind == OperandKind::kMem ? 1 : 0;
    const std::uint8_t reg = insn.operand[1 - memory].reg;
    const T value = read_gpr<T>(cpu, reg);
    if (insn.operand[memory].kind != OperandKind::kMem) {
      const std::uint8_t other = insn.operand[memory].reg;
      write_gpr<T>(cpu, reg, read_gpr<T>(cpu, other));
      write_gpr<T>(cpu, other, value);
      return Next::kNext;
    }
    std::uint64_t linear = 0;
    T old = 0;
    if (!open_for_write<T>(cpu, insn, linear) || !replace<T>(cpu, linear, true, [&](T seen) {
          old = seen;
          return value;
        })) {
      return Next::kAborted;
    }
    write_gpr<T>(cpu, reg, old);
    return Next::kNext;
  });
}

Next xadd(Cpu& cpu, const Insn& insn) {
  return by_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    const std::uint8_t source = insn.operand[1].reg;
    const T addend = read_gpr<T>(cpu, source);
    if (insn.operand[0].kind == OperandKind::kGpr) {
      // Of one register twice the sum stays.
      const T old = read_gpr<T>(cpu, insn.operand[0].reg);
      write_gpr<T>(cpu, source, old);
      write_gpr<T>(cpu, insn.operand[0].reg, host::add(old, addend, cpu.status));
      return Next::kNext;
    }
    T old = 0;
    const Next next = modify<T>(cpu, insn, [&](T seen, StatusFlags& flags) {
      old = seen;
      return host::add(seen, addend, flags);
    });
    if (next == Next::kNext) write_gpr<T>(cpu, source, old);
    return next;
  });
}

// Destination equal to the accumulator: it takes the source. Otherwise the accumulator takes the
// destination, and memory is written back as it was.
template <class T>
Next compare_exchange_register(Cpu& cpu, const Insn& insn, T expected, T source) {
  const std::uint8_t reg = insn.operand[0].reg;
  const T old = read_gpr<T>(cpu, reg);
  host::sub(expected, old, cpu.status);
  if (cpu.status.zf()) {
    write_gpr<T>(cpu, reg, source);
  } else {
    write_gpr<T>(cpu, kRax, old);
  }
  return Next::kNext;
}

Next cmpxchg(Cpu& cpu, const Insn& insn) {
  return by_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    const T expected = read_gpr<T>(cpu, kRax);
    const T source = read_gpr<T>(cpu, insn.operand[1].reg);
    if (insn.operand[0].kind == OperandKind::kGpr) {
      return compare_exchange_register<T>(cpu, insn, expected, source);
    }
    T old = 0;
    const Next next = modify<T>(cpu, insn, [&](T seen, StatusFlags& flags) {
      old = seen;
      host::sub(expected, seen, flags);
      return flags.zf() ? source : seen;
    });
    if (next == Next::kNext && !cpu.status.zf()) write_gpr<T>(cpu, kRax, old);
    return next;
  });
}

// CMPXCHG8B and 16B: Half is one of the two registers of each operand, Whole what memory holds.
template <class Half, class Whole>
Next compare_exchange_pair(Cpu& cpu, const Insn& insn) {
  constexpr unsigned kHalfBits = sizeof(Half) * 8;
  const auto joined = [&](std::uint8_t high, std::uint8_t low) {
    return static_cast<Whole>(static_cast<Whole>(read_gpr<Half>(cpu, high)) << kHalfBits |
                              read_gpr<Half>(cpu, low));
  };
  const Whole expected = joined(kRdx, kRax);
  const Whole desired = joined(kRcx, kRbx);
  const std::uint64_t offset = effective_offset(cpu, insn);
  std::uint64_t linear = 0;
  if (!linear_address(cpu, insn.segment, offset, sizeof(Whole), true, linear)) {
    // Alignment is looked at first, and never is a fault of the stack.
    const bool misaligned = sizeof(Whole) == 16 && offset % 16 != 0;
    return misaligned ? raise(cpu, vector::kProtection, 0) : Next::kAborted;
  }
  if (sizeof(Whole) == 16 && linear % 16 != 0) return raise(cpu, vector::kProtection, 0);
  Whole old = 0;
  if (!check_write(cpu, linear, sizeof(Whole)) ||
      !replace<Whole>(cpu, linear, insn.lock, [&](Whole seen) {
        old = seen;
        return seen == expected ? desired : seen;
      })) {
    return Next::kAborted;
  }
  cpu.status = with_flag(cpu.status, eflags::kZf, old == expected);
  if (old != expected) {
    write_gpr(cpu, kRax, static_cast<Half>(old));
    write_gpr(cpu, kRdx, static_cast<Half>(old >> kHalfBits));
  }
  return Next::kNext;
}

}  // namespace

std::span<const SemanticEntry> atomic_semantics() {
  static constexpr std::array kEntries = std::to_array<SemanticEntry>({
      {Op::kXchg, xchg},
      {Op::kXadd, xadd},
      {Op::kCmpxchg, cmpxchg},
      {Op::kCmpxchg8b, compare_exchange_pair<std::uint32_t, std::uint64_t>},
      {Op::kCmpxchg16b, compare_exchange_pair<std::uint64_t, unsigned __int128>},
  });
  return kEntries;
}

}  // namespace sm::soft
