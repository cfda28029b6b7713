// What the MMX and SSE operations share: 128-bit values, the checks that come before every one of
// them, their operands, and MMX registers as aliases of the x87 ones.
// Thread: the vCPU's.
// Spec: SDM vol. 1, 9.5 (MMX and x87); vol. 2, 2.4 (exception classes); vol. 3, 12.3 and 13.1.
#pragma once

#include <emmintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "vmm/cpu/soft/access.h"
#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/exec/x87_state.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

using Vec = __m128i;  // an XMM register's value; MMX values are its low half

inline constexpr std::uint64_t kCr0Em = 1u << 2, kCr0Ts = 1u << 3;
inline constexpr std::uint64_t kCr4Osfxsr = 1u << 9, kCr4Osxmmexcpt = 1u << 10;

// Whether SSE instructions may run; else the fault is set.
inline bool sse_ready(Cpu& cpu) {
  if (((cpu.cr0 & (kCr0Em | kCr0Ts)) | (~cpu.cr4 & kCr4Osfxsr)) == 0) [[likely]] {
    return true;
  }
  const bool undefined = (cpu.cr0 & kCr0Em) != 0 || (cpu.cr4 & kCr4Osfxsr) == 0;
  raise(cpu, undefined ? vector::kUndefined : vector::kNoMath);
  return false;
}

// Whether MMX instructions may run; else the fault is set.
inline bool mmx_ready(Cpu& cpu) {
  if ((cpu.cr0 & (kCr0Em | kCr0Ts)) != 0) {
    raise(cpu, (cpu.cr0 & kCr0Em) != 0 ? vector::kUndefined : vector::kNoMath);
    return false;
  }
  if (x87_pending(cpu.fx)) {
    raise(cpu, vector::kMath);
    return false;
  }
  return true;
}

inline Vec xmm(const Cpu& cpu, std::uint8_t reg) {
  return _mm_load_si128(reinterpret_cast<const Vec*>(cpu.fx.xmm[reg & 15].data()));
}
inline void set_xmm(Cpu& cpu, std::uint8_t reg, Vec value) {
  _mm_store_si128(reinterpret_cast<Vec*>(cpu.fx.xmm[reg & 15].data()), value);
}

inline Vec from_u64(std::uint64_t low, std::uint64_t high = 0) {
  return _mm_set_epi64x(static_cast<long long>(high), static_cast<long long>(low));
}
inline std::uint64_t low_u64(Vec value) {
  return static_cast<std::uint64_t>(_mm_cvtsi128_si64(value));
}
inline std::uint64_t high_u64(Vec value) { return low_u64(_mm_unpackhi_epi64(value, value)); }

// MM0..7 are the low 64 bits of the physical x87 registers, whatever TOP is.
inline Vec mmx(const Cpu& cpu, std::uint8_t reg) {
  std::uint64_t value = 0;
  std::memcpy(&value, cpu.fx.st[(reg - x87_top(cpu.fx)) & 7u].data(), sizeof value);
  return from_u64(value);
}
// What every MMX instruction does to the x87 state: TOP = 0 and, but for EMMS, all registers valid.
inline void enter_mmx(Cpu& cpu) {
  if (x87_top(cpu.fx) != 0) {
    x87_set_top(cpu.fx, 0);
  }
  cpu.fx.abridged_tag = 0xFF;
}
// After enter_mmx(). Sign and exponent of the x87 register become ones.
inline void set_mmx(Cpu& cpu, std::uint8_t reg, Vec value) {
  auto& bytes = cpu.fx.st[reg & 7];
  const std::uint64_t low = low_u64(value);
  std::memcpy(bytes.data(), &low, sizeof low);
  bytes[8] = bytes[9] = 0xFF;
}

// Whether a 16-byte memory operand must lie on a multiple of 16.
enum class Alignment : std::uint8_t { kNone, kVector };

// Linear address of the memory operand, with the checks of its class. False: the fault is set.
bool vector_address(Cpu& cpu, const Insn& insn, std::uint32_t size, Alignment alignment,
                    bool is_write, std::uint64_t& linear);
// The memory operand's bytes, zero-extended.
bool load_vector(Cpu& cpu, const Insn& insn, std::uint32_t size, Alignment alignment, Vec& value);
// The low `size` bytes of `value` to the memory operand.
bool store_vector(Cpu& cpu, const Insn& insn, std::uint32_t size, Alignment alignment, Vec value);

// The value of any operand, zero-extended to 128 bits. False: the fault is set.
inline bool load_source(Cpu& cpu, const Insn& insn, std::size_t index, Vec& value,
                        Alignment alignment = Alignment::kVector) {
  const Operand& operand = insn.operand[index];
  switch (operand.kind) {
    case OperandKind::kXmm:
      value = xmm(cpu, operand.reg);
      return true;
    case OperandKind::kMem:
      return load_vector(cpu, insn, operand.size, alignment, value);
    case OperandKind::kMmx:
      value = mmx(cpu, operand.reg);
      return true;
    case OperandKind::kImm:
      value = from_u64(static_cast<std::uint64_t>(insn.imm) & 0xFF);
      return true;
    default:
      value = from_u64(cpu.gpr[operand.reg & 15]);
      return true;
  }
}

inline bool has_mmx(const Insn& insn) {
  return insn.operand[0].kind == OperandKind::kMmx || insn.operand[1].kind == OperandKind::kMmx;
}

// Each file's operations; vector.cc joins them.
std::span<const SemanticEntry> vector_integer_semantics();
std::span<const SemanticEntry> vector_float_semantics();
std::span<const SemanticEntry> vector_convert_semantics();
std::span<const SemanticEntry> vector_move_semantics();
std::span<const SemanticEntry> vector_immediate_semantics();
std::span<const SemanticEntry> vector_text_semantics();
std::span<const SemanticEntry> vector_state_semantics();

}  // namespace sm::soft
