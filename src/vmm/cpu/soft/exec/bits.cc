// Bit test, bit scan and counting.
#include <array>
#include <bit>

#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/operand.h"

namespace sm::soft {

namespace {

struct Bts {
  template <class T>
  static T apply(T a, T bit, StatusFlags& f) {
    return host::bts(a, bit, f);
  }
};
struct Btr {
  template <class T>
  static T apply(T a, T bit, StatusFlags& f) {
    return host::btr(a, bit, f);
  }
};
struct Btc {
  template <class T>
  static T apply(T a, T bit, StatusFlags& f) {
    return host::btc(a, bit, f);
  }
};

// Where a bit test looks: an immediate counts within the operand, a register is a signed bit offset
// from it in memory.
template <class T>
struct BitPlace {
  T bit;
  std::int64_t delta;  // bytes, a multiple of the operand size
};

template <class T>
BitPlace<T> bit_place(const Cpu& cpu, const Insn& insn) {
  constexpr unsigned kBits = sizeof(T) * 8;
  if (insn.operand[1].kind != OperandKind::kGpr) {
    return {static_cast<T>(static_cast<T>(insn.imm) % kBits), 0};
  }
  const T offset = read_gpr<T>(cpu, insn.operand[1].reg);
  const std::int64_t signed_offset = static_cast<std::make_signed_t<T>>(offset);
  constexpr unsigned kLog2Bits = std::countr_zero(kBits);
  return {static_cast<T>(offset % kBits),
          (signed_offset >> kLog2Bits) * static_cast<std::int64_t>(sizeof(T))};
}

Next bt(Cpu& cpu, const Insn& insn) {
  return by_wide_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    const auto [bit, delta] = bit_place<T>(cpu, insn);
    T value = 0;
    if (insn.operand[0].kind == OperandKind::kMem) {
      const std::uint64_t offset =
          (effective_offset(cpu, insn) + static_cast<std::uint64_t>(delta)) &
          address_mask(insn.address_size);
      std::uint64_t linear = 0;
      if (!linear_address(cpu, insn.segment, offset, sizeof(T), false, linear) ||
          !load_linear(cpu, linear, &value, sizeof(T))) {
        return Next::kAborted;
      }
    } else {
      value = read_gpr<T>(cpu, insn.operand[0].reg);
    }
    host::bt<T>(value, bit, cpu.status);
    return Next::kNext;
  });
}

template <class Operation>
Next bit_change(Cpu& cpu, const Insn& insn) {
  return by_wide_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    const auto place = bit_place<T>(cpu, insn);
    return modify<T>(
        cpu, insn,
        [&](T old, StatusFlags& flags) { return Operation::apply(old, place.bit, flags); },
        place.delta);
  });
}

struct Bsf {
  template <class T>
  static std::uint64_t apply(std::uint64_t destination, T source, StatusFlags& f) {
    return host::bsf(destination, source, f);
  }
};
struct Bsr {
  template <class T>
  static std::uint64_t apply(std::uint64_t destination, T source, StatusFlags& f) {
    return host::bsr(destination, source, f);
  }
};

template <class Operation>
Next scan(Cpu& cpu, const Insn& insn) {
  return by_wide_size(insn.operand[0].size, [&](auto tag) {
    decltype(tag) source = 0;
    if (!read_operand(cpu, insn, 1, source)) return Next::kAborted;
    std::uint64_t& destination = cpu.gpr[insn.operand[0].reg];
    destination = Operation::apply(destination, source, cpu.status);
    return Next::kNext;
  });
}

// POPCNT defines all flags: ZF from the source, the others are cleared.
Next popcnt(Cpu& cpu, const Insn& insn) {
  return by_wide_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    T source = 0;
    if (!read_operand(cpu, insn, 1, source)) return Next::kAborted;
    write_gpr<T>(cpu, insn.operand[0].reg, static_cast<T>(std::popcount(source)));
    cpu.status = StatusFlags::from_eflags(source == 0 ? eflags::kZf : 0);
    return Next::kNext;
  });
}

// LZCNT, TZCNT define CF and ZF; processors clear the others.
template <class T>
void finish_count(Cpu& cpu, const Insn& insn, T source, int zeros) {
  write_gpr<T>(cpu, insn.operand[0].reg, static_cast<T>(zeros));
  cpu.status =
      StatusFlags::from_eflags((source == 0 ? eflags::kCf : 0) | (zeros == 0 ? eflags::kZf : 0));
}

Next lzcnt(Cpu& cpu, const Insn& insn) {
  return by_wide_size(insn.operand[0].size, [&](auto tag) {
    decltype(tag) source = 0;
    if (!read_operand(cpu, insn, 1, source)) return Next::kAborted;
    finish_count(cpu, insn, source, std::countl_zero(source));
    return Next::kNext;
  });
}

Next tzcnt(Cpu& cpu, const Insn& insn) {
  return by_wide_size(insn.operand[0].size, [&](auto tag) {
    decltype(tag) source = 0;
    if (!read_operand(cpu, insn, 1, source)) return Next::kAborted;
    finish_count(cpu, insn, source, std::countr_zero(source));
    return Next::kNext;
  });
}

}  // namespace

std::span<const SemanticEntry> bit_semantics() {
  static constexpr std::array kEntries = std::to_array<SemanticEntry>({
      {Op::kBt, bt},
      {Op::kBts, bit_change<Bts>},
      {Op::kBtr, bit_change<Btr>},
      {Op::kBtc, bit_change<Btc>},
      {Op::kBsf, scan<Bsf>},
      {Op::kBsr, scan<Bsr>},
      {Op::kPopcnt, popcnt},
      {Op::kLzcnt, lzcnt},
      {Op::kTzcnt, tzcnt},
  });
  return kEntries;
}

}  // namespace sm::soft
