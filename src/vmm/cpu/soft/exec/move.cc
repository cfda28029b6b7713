// Data movement between registers and memory.
#include <array>

#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/operand.h"

namespace sm::soft {

namespace {

Next mov(Cpu& cpu, const Insn& insn) {
  return by_size(insn.operand[0].size, [&](auto tag) {
    decltype(tag) value = 0;
    return done(read_operand(cpu, insn, 1, value) && write_operand(cpu, insn, 0, value));
  });
}

Next movzx(Cpu& cpu, const Insn& insn) {
  return by_size(insn.operand[1].size, [&](auto tag) {
    decltype(tag) value = 0;
    if (!read_operand(cpu, insn, 1, value)) return Next::kAborted;
    write_sized(cpu, insn.operand[0].reg, insn.operand[0].size, value);
    return Next::kNext;
  });
}

Next movsx(Cpu& cpu, const Insn& insn) {
  return by_size(insn.operand[1].size, [&](auto tag) {
    using T = decltype(tag);
    T value = 0;
    if (!read_operand(cpu, insn, 1, value)) return Next::kAborted;
    const std::int64_t wide = static_cast<std::make_signed_t<T>>(value);
    write_sized(cpu, insn.operand[0].reg, insn.operand[0].size, static_cast<std::uint64_t>(wide));
    return Next::kNext;
  });
}

template <class T>
T swap_bytes(T value) {
  if constexpr (sizeof(T) == 2) {
    return __builtin_bswap16(value);
  } else if constexpr (sizeof(T) == 4) {
    return __builtin_bswap32(value);
  } else {
    return __builtin_bswap64(value);
  }
}

Next movbe(Cpu& cpu, const Insn& insn) {
  return by_wide_size(insn.operand[0].size, [&](auto tag) {
    decltype(tag) value = 0;
    return done(read_operand(cpu, insn, 1, value) &&
                write_operand(cpu, insn, 0, swap_bytes(value)));
  });
}

// Of 16 bits the manuals leave the result undefined; processors give zero.
Next bswap(Cpu& cpu, const Insn& insn) {
  const std::uint8_t reg = insn.operand[0].reg;
  switch (insn.operand[0].size) {
    case 2:
      write_gpr(cpu, reg, std::uint16_t{0});
      break;
    case 4:
      write_gpr(cpu, reg, swap_bytes(read_gpr<std::uint32_t>(cpu, reg)));
      break;
    default:
      write_gpr(cpu, reg, swap_bytes(read_gpr<std::uint64_t>(cpu, reg)));
      break;
  }
  return Next::kNext;
}

Next lea(Cpu& cpu, const Insn& insn) {
  write_sized(cpu, insn.operand[0].reg, insn.operand[0].size, effective_offset(cpu, insn));
  return Next::kNext;
}

// al = [rbx + al], in the address size.
Next xlat(Cpu& cpu, const Insn& insn) {
  const std::uint64_t offset =
      (cpu.gpr[kRbx] + read_gpr<std::uint8_t>(cpu, kRax)) & address_mask(insn.address_size);
  std::uint64_t linear = 0;
  std::uint8_t value = 0;
  if (!linear_address(cpu, insn.segment, offset, 1, false, linear) ||
      !load_linear(cpu, linear, &value, 1)) {
    return Next::kAborted;
  }
  write_gpr(cpu, kRax, value);
  return Next::kNext;
}

template <class T>
std::uint64_t sign_extended(const Cpu& cpu, std::uint8_t reg) {
  const std::int64_t wide = static_cast<std::make_signed_t<T>>(read_gpr<T>(cpu, reg));
  return static_cast<std::uint64_t>(wide);
}

// CBW, CWDE, CDQE: the accumulator's lower half to all of it.
Next cbw(Cpu& cpu, const Insn& insn) {
  switch (insn.operand_size) {
    case 2:
      write_sized(cpu, kRax, 2, sign_extended<std::uint8_t>(cpu, kRax));
      break;
    case 4:
      write_sized(cpu, kRax, 4, sign_extended<std::uint16_t>(cpu, kRax));
      break;
    default:
      write_sized(cpu, kRax, 8, sign_extended<std::uint32_t>(cpu, kRax));
      break;
  }
  return Next::kNext;
}

// CWD, CDQ, CQO: the accumulator's sign to all of dx.
Next cwd(Cpu& cpu, const Insn& insn) {
  const std::uint8_t size = insn.operand_size;
  const bool negative = (cpu.gpr[kRax] >> (size * 8 - 1) & 1) != 0;
  write_sized(cpu, kRdx, size, negative ? ~std::uint64_t{0} : 0);
  return Next::kNext;
}

// The source is read and the destination written, which clears its upper half, in any case.
Next cmov(Cpu& cpu, const Insn& insn) {
  return by_wide_size(insn.operand[0].size, [&](auto tag) {
    using T = decltype(tag);
    T value = 0;
    if (!read_operand(cpu, insn, 1, value)) return Next::kAborted;
    const std::uint8_t reg = insn.operand[0].reg;
    const bool move = condition_holds(cpu.status, insn.condition);
    write_gpr<T>(cpu, reg, move ? value : read_gpr<T>(cpu, reg));
    return Next::kNext;
  });
}

Next setcc(Cpu& cpu, const Insn& insn) {
  return done(write_operand(
      cpu, insn, 0, static_cast<std::uint8_t>(condition_holds(cpu.status, insn.condition))));
}

}  // namespace

std::span<const SemanticEntry> move_semantics() {
  static constexpr std::array kEntries = std::to_array<SemanticEntry>({
      {Op::kMov, mov},
      {Op::kMovzx, movzx},
      {Op::kMovsx, movsx},
      {Op::kMovsxd, movsx},
      {Op::kMovbe, movbe},
      {Op::kMovnti, mov},
      {Op::kBswap, bswap},
      {Op::kLea, lea},
      {Op::kXlat, xlat},
      {Op::kCbw, cbw},
      {Op::kCwd, cwd},
      {Op::kCmovcc, cmov},
      {Op::kSetcc, setcc},
  });
  return kEntries;
}

}  // namespace sm::soft
