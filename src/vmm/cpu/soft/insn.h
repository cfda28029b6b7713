// Insn: one decoded x86 instruction, without an address: what the decoder gives and the semantic
// functions and the translator take. Plain data.
// Spec: Intel SDM vol. 2, chapter 2 and appendix A.
#pragma once

#include <array>
#include <cstdint>

namespace sm::soft {

// One value per operation, in the spelling of Intel's mnemonic (kAdd, kMovsxd, kPunpcklbw).
// Families that differ in a condition only are one: kJcc, kSetcc, kCmovcc with Insn::condition.
// String instructions are named without their size (kMovs, kStos, kCmps, kScas, kLods, kIns,
// kOuts).
enum class Op : std::uint16_t {
  kInvalid,
#define SM_SOFT_OP(name) name,
#include "vmm/cpu/soft/ops.def"
#undef SM_SOFT_OP
  kCount,
};

// What CS says of the code: the default operand and address size.
enum class CodeMode : std::uint8_t { k16, k32, k64 };

enum class OperandKind : std::uint8_t {
  kNone,
  kGpr,      // reg 0..15; of 1-byte operands 16..19 name ah, ch, dh, bh
  kMem,      // the one memory operand: Insn::base etc.
  kImm,      // Insn::imm, sign-extended to 64 bits as the instruction does it
  kImm2,     // Insn::imm2 (ENTER)
  kRel,      // a branch displacement in Insn::imm, relative to the next instruction
  kFar,      // a far pointer: offset in Insn::imm, selector in Insn::imm2
  kXmm,      // reg 0..15
  kMmx,      // reg 0..7
  kSt,       // reg 0..7: ST(reg)
  kSegment,  // reg: the order of Segment
  kControl,  // reg: 0, 2, 3, 4, 8
  kDebug,    // reg 0..7
};

// The encoding order.
enum class Segment : std::uint8_t { kEs, kCs, kSs, kDs, kFs, kGs };

enum class Repeat : std::uint8_t { kNone, kRep, kRepne };  // F3, F2 where they mean repetition

inline constexpr std::uint8_t kNoRegister = 16;   // as base or index; Cpu::gpr[16] is always 0
inline constexpr std::uint8_t kRipRegister = 17;  // as base: relative to the next instruction

struct Operand {
  OperandKind kind = OperandKind::kNone;
  std::uint8_t reg = 0;
  std::uint8_t size =
      0;  // bytes; of kMem the bytes that are accessed, 0 when none are (LEA, INVLPG)
  friend bool operator==(const Operand&, const Operand&) = default;
};

struct Insn {
  Op op = Op::kInvalid;
  std::uint8_t length = 0;        // bytes, 1..15
  std::uint8_t operand_size = 0;  // 1, 2, 4 or 8: the effective one of integer instructions
  std::uint8_t address_size = 0;  // 2, 4 or 8
  std::uint8_t condition = 0;     // of kJcc, kSetcc, kCmovcc: the low four opcode bits
  std::uint8_t operand_count = 0;
  bool lock = false;
  Repeat repeat = Repeat::kNone;
  // Explicit operands in Intel's order, the destination first. Implied registers (of MUL, string
  // instructions, shifts by one) are not listed, CL as a shift count is.
  std::array<Operand, 4> operand{};

  // The memory operand: base + index * 2^scale + displacement in segment.
  Segment segment = Segment::kDs;  // the effective one, prefix and default applied; also of strings
  std::uint8_t base = kNoRegister;
  std::uint8_t index = kNoRegister;
  std::uint8_t scale = 0;  // 0..3
  std::uint16_t imm2 = 0;
  std::int64_t displacement = 0;

  std::int64_t imm = 0;
  friend bool operator==(const Insn&, const Insn&) = default;
};
static_assert(sizeof(Insn) == 48);  // code caches keep many

}  // namespace sm::soft
