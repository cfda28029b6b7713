// Data movement of MMX and SSE: between registers, to and from memory and general registers.
#include <array>
#include <bit>

#include "vmm/cpu/soft/exec/operand.h"
#include "vmm/cpu/soft/exec/vector_common.h"

namespace sm::soft {

namespace {

bool is_memory(const Operand& operand) { return operand.kind == OperandKind::kMem; }

Vec keep_low(Vec value, unsigned size) {
  return size == 4   ? from_u64(static_cast<std::uint32_t>(low_u64(value)))
         : size == 8 ? _mm_move_epi64(value)
                     : value;
}

// MOVAPS and its kin: all 16 bytes.
template <Alignment kAlignment>
Next move_whole(Cpu& cpu, const Insn& insn) {
  if (!sse_ready(cpu)) {
    return Next::kAborted;
  }
  const Operand& destination = insn.operand[0];
  if (is_memory(destination)) {
    const bool done = store_vector(cpu, insn, 16, kAlignment, xmm(cpu, insn.operand[1].reg));
    return done ? Next::kNext : Next::kAborted;
  }
  Vec value;
  if (!load_source(cpu, insn, 1, value, kAlignment)) {
    return Next::kAborted;
  }
  set_xmm(cpu, destination.reg, value);
  return Next::kNext;
}

// MOVSS, MOVSD: between registers the upper part of the destination stays, from memory it is zero.
template <unsigned kSize>
Next move_scalar(Cpu& cpu, const Insn& insn) {
  const Operand& destination = insn.operand[0];
  const Operand& source = insn.operand[1];
  Vec value;
  if (!sse_ready(cpu) || !load_source(cpu, insn, 1, value)) {
    return Next::kAborted;
  }
  if (is_memory(destination)) {
    return store_vector(cpu, insn, kSize, Alignment::kNone, value) ? Next::kNext : Next::kAborted;
  }
  if (is_memory(source)) {
    set_xmm(cpu, destination.reg, value);
  } else {
    std::memcpy(cpu.fx.xmm[destination.reg & 15].data(), &value, kSize);
  }
  return Next::kNext;
}

// MOVLPS, MOVHPS and their kin: 8 bytes between memory and one half of a register.
template <unsigned kHalf>
Next move_half(Cpu& cpu, const Insn& insn) {
  if (!sse_ready(cpu)) {
    return Next::kAborted;
  }
  const bool is_store = is_memory(insn.operand[0]);
  std::uint8_t* half = cpu.fx.xmm[insn.operand[is_store ? 1 : 0].reg & 15].data() + 8 * kHalf;
  std::uint64_t value = 0;
  if (is_store) {
    std::memcpy(&value, half, sizeof value);
    return store_operand(cpu, insn, value) ? Next::kNext : Next::kAborted;
  }
  if (!load_operand(cpu, insn, value)) {
    return Next::kAborted;
  }
  std::memcpy(half, &value, sizeof value);
  return Next::kNext;
}

Next movhlps(Cpu& cpu, const Insn& insn) {
  if (!sse_ready(cpu)) {
    return Next::kAborted;
  }
  const Vec value = xmm(cpu, insn.operand[0].reg);
  const Vec source = xmm(cpu, insn.operand[1].reg);
  set_xmm(cpu, insn.operand[0].reg, from_u64(high_u64(source), high_u64(value)));
  return Next::kNext;
}

Next movlhps(Cpu& cpu, const Insn& insn) {
  if (!sse_ready(cpu)) {
    return Next::kAborted;
  }
  const Vec value = xmm(cpu, insn.operand[0].reg);
  const Vec source = xmm(cpu, insn.operand[1].reg);
  set_xmm(cpu, insn.operand[0].reg, from_u64(low_u64(value), low_u64(source)));
  return Next::kNext;
}

// What an instruction with these operands checks: an XMM register wants SSE, an MMX one MMX.
bool operands_ready(Cpu& cpu, const Insn& insn) {
  const bool has_xmm =
      insn.operand[0].kind == OperandKind::kXmm || insn.operand[1].kind == OperandKind::kXmm;
  return (!has_xmm || sse_ready(cpu)) && (!has_mmx(insn) || mmx_ready(cpu));
}

// MOVD, MOVQ, MOVNTQ, MOVQ2DQ, MOVDQ2Q: up to 8 bytes between any two places; a register that is
// longer is filled with zeros.
Next move_low(Cpu& cpu, const Insn& insn) {
  const Operand& destination = insn.operand[0];
  const unsigned size = insn.op == Op::kMovd ? std::min(destination.size, insn.operand[1].size) : 8;
  Vec value;
  if (!operands_ready(cpu, insn) || !load_source(cpu, insn, 1, value)) {
    return Next::kAborted;
  }
  value = keep_low(value, size);
  if (is_memory(destination) && !store_vector(cpu, insn, size, Alignment::kNone, value)) {
    return Next::kAborted;
  }
  if (has_mmx(insn)) {
    enter_mmx(cpu);
  }
  if (destination.kind == OperandKind::kMmx) {
    set_mmx(cpu, destination.reg, value);
  } else if (destination.kind == OperandKind::kXmm) {
    set_xmm(cpu, destination.reg, value);
  } else if (destination.kind == OperandKind::kGpr) {
    cpu.gpr[destination.reg & 15] = low_u64(value);
  }
  return Next::kNext;
}

// MOVMSKPS, MOVMSKPD, PMOVMSKB: the sign bits.
Next move_mask(Cpu& cpu, const Insn& insn) {
  if (!operands_ready(cpu, insn)) {
    return Next::kAborted;
  }
  Vec value;
  load_source(cpu, insn, 1, value);
  int mask = 0;
  if (insn.op == Op::kMovmskps) {
    mask = _mm_movemask_ps(_mm_castsi128_ps(value));
  } else if (insn.op == Op::kMovmskpd) {
    mask = _mm_movemask_pd(_mm_castsi128_pd(value));
  } else {
    mask = _mm_movemask_epi8(value);
  }
  if (has_mmx(insn)) {
    enter_mmx(cpu);
  }
  cpu.gpr[insn.operand[0].reg & 15] = static_cast<std::uint32_t>(mask);
  return Next::kNext;
}

// Calls work(linear, bytes, length) for each run of set bits of `mask`, until it says false.
template <class Work>
bool for_each_run(Cpu& cpu, const Insn& insn, std::uint32_t mask,
                  const std::array<std::uint8_t, 16>& bytes, Work&& work) {
  const std::uint64_t address = cpu.gpr[kRdi];
  while (mask != 0) {
    const auto first = static_cast<unsigned>(std::countr_zero(mask));
    const auto length = static_cast<unsigned>(std::countr_one(mask >> first));
    std::uint64_t linear = 0;
    const std::uint64_t offset = (address + first) & address_mask(insn.address_size);
    if (!linear_address(cpu, insn.segment, offset, length, true, linear) ||
        !work(linear, &bytes[first], length)) {
      return false;
    }
    mask &= ~(((1u << length) - 1) << first);
  }
  return true;
}

// MASKMOVQ, MASKMOVDQU: the bytes of operand 0 whose mask byte in operand 1 is negative, to
// segment:rdi. Bytes that are not chosen raise nothing.
Next move_masked(Cpu& cpu, const Insn& insn) {
  Vec value, mask;
  if (!operands_ready(cpu, insn) || !load_source(cpu, insn, 0, value) ||
      !load_source(cpu, insn, 1, mask)) {
    return Next::kAborted;
  }
  const auto chosen = static_cast<std::uint32_t>(_mm_movemask_epi8(mask));
  const auto bytes = std::bit_cast<std::array<std::uint8_t, 16>>(value);
  const auto check = [&](std::uint64_t linear, const std::uint8_t*, unsigned length) {
    return check_write(cpu, linear, length);
  };
  const auto store = [&](std::uint64_t linear, const std::uint8_t* from, unsigned length) {
    return store_linear(cpu, linear, from, length);
  };
  if (!for_each_run(cpu, insn, chosen, bytes, check) ||
      !for_each_run(cpu, insn, chosen, bytes, store)) {
    return Next::kAborted;
  }
  if (has_mmx(insn)) {
    enter_mmx(cpu);
  }
  return Next::kNext;
}

constexpr SemanticEntry kEntries[] = {
    {Op::kMovaps, move_whole<Alignment::kVector>},
    {Op::kMovapd, move_whole<Alignment::kVector>},
    {Op::kMovdqa, move_whole<Alignment::kVector>},
    {Op::kMovntps, move_whole<Alignment::kVector>},
    {Op::kMovntpd, move_whole<Alignment::kVector>},
    {Op::kMovntdq, move_whole<Alignment::kVector>},
    {Op::kMovntdqa, move_whole<Alignment::kVector>},
    {Op::kMovups, move_whole<Alignment::kNone>},
    {Op::kMovupd, move_whole<Alignment::kNone>},
    {Op::kMovdqu, move_whole<Alignment::kNone>},
    {Op::kLddqu, move_whole<Alignment::kNone>},
    {Op::kMovss, move_scalar<4>},
    {Op::kMovsd, move_scalar<8>},
    {Op::kMovlps, move_half<0>},
    {Op::kMovlpd, move_half<0>},
    {Op::kMovhps, move_half<1>},
    {Op::kMovhpd, move_half<1>},
    {Op::kMovhlps, movhlps},
    {Op::kMovlhps, movlhps},
    {Op::kMovd, move_low},
    {Op::kMovq, move_low},
    {Op::kMovntq, move_low},
    {Op::kMovq2dq, move_low},
    {Op::kMovdq2q, move_low},
    {Op::kMovmskps, move_mask},
    {Op::kMovmskpd, move_mask},
    {Op::kPmovmskb, move_mask},
    {Op::kMaskmovq, move_masked},
    {Op::kMaskmovdqu, move_masked},
};

}  // namespace

std::span<const SemanticEntry> vector_move_semantics() { return kEntries; }

}  // namespace sm::soft
