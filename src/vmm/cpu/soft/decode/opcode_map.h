// The opcode maps as data: what an opcode means under which conditions, and where its operands are.
//
// A map is a list of rows in the order of opcodes:
//
//   {0x12, kNp, kMovlps, {Vx, Mq}},          // memory only, says Mq
//   {0x12, kNp, kMovhlps, {Vx, Ux}},         // register only, says Ux
//   {0x70, kAny, kJcc, {Jb}, kSixteen | kForce64},   // 70..7F
//
// Of the rows of an opcode the first whose conditions hold is taken; if none does, or its operation
// is kInvalid, the instruction is undefined. Rows are compiled to Forms: what the decoder reads.
// Spec: SDM vol. 2, appendix A.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "vmm/cpu/soft/decode/operand_encoding.h"
#include "vmm/cpu/soft/insn.h"

namespace sm::soft {

// What rows may depend on, packed into one number.
namespace key {
inline constexpr std::uint16_t kRegShift = 0;  // ModRM.reg
inline constexpr std::uint16_t kRmShift = 3;   // ModRM.rm
inline constexpr std::uint16_t kMod3 = 1u << 6;
inline constexpr std::uint16_t k64 = 1u << 7;  // 64-bit mode
inline constexpr std::uint16_t kRexB = 1u << 8;
inline constexpr std::uint16_t kRexW = 1u << 9;
// The last of F3 and F2; without them 66.
inline constexpr std::uint16_t kPrefixShift = 10;
inline constexpr std::uint16_t kPrefixNone = 0u << kPrefixShift, kPrefix66 = 1u << kPrefixShift,
                               kPrefixF3 = 2u << kPrefixShift, kPrefixF2 = 3u << kPrefixShift,
                               kPrefixMask = 3u << kPrefixShift;
inline constexpr std::uint16_t kModRmMask = 0x7F;  // ModRM's part of the key
}  // namespace key

// A condition on the key; `a & b` needs both.
struct When {
  std::uint16_t mask = 0;
  std::uint16_t value = 0;
  friend constexpr When operator&(When a, When b) {
    return {static_cast<std::uint16_t>(a.mask | b.mask),
            static_cast<std::uint16_t>(a.value | b.value)};
  }
};

inline constexpr When kAny{};
inline constexpr When kNp{key::kPrefixMask, key::kPrefixNone};  // none of 66, F3, F2
inline constexpr When k66{key::kPrefixMask, key::kPrefix66};
inline constexpr When kF3{key::kPrefixMask, key::kPrefixF3};
inline constexpr When kF2{key::kPrefixMask, key::kPrefixF2};
// Neither F3 nor F2: both have the bit.
inline constexpr When kNoRep{key::kPrefixF3, 0};
static_assert((key::kPrefixF2 & key::kPrefixF3) == key::kPrefixF3);
inline constexpr When kInMemory{key::kMod3, 0};
inline constexpr When kInRegister{key::kMod3, key::kMod3};
inline constexpr When kOnly64{key::k64, key::k64};
inline constexpr When kNot64{key::k64, 0};
inline constexpr When kRexB{key::kRexB, key::kRexB};
inline constexpr When kRexW{key::kRexW, key::kRexW};
// /n: ModRM.reg
constexpr When reg(std::uint16_t n) {
  return {7u << key::kRegShift, static_cast<std::uint16_t>(n << key::kRegShift)};
}
// The ModRM byte C0..FF itself.
constexpr When modrm(std::uint16_t byte) {
  const auto rm = static_cast<std::uint16_t>((byte & 7) << key::kRmShift);
  return When{7u << key::kRmShift, rm} & reg((byte >> 3) & 7) & kInRegister;
}

using Flags = std::uint16_t;
inline constexpr Flags kEight = 1u << 0;    // the opcode and the seven after it
inline constexpr Flags kSixteen = 1u << 1;  // the opcode and the fifteen after it
inline constexpr Flags kLock = 1u << 2;     // LOCK is allowed when the first operand is memory
inline constexpr Flags kByte = 1u << 3;     // operand_size is 1 (also set by a first byte operand)
inline constexpr Flags kDefault64 = 1u << 4;  // operand size 8 in 64-bit mode, 2 with 66
inline constexpr Flags kForce64 = 1u << 5;    // operand size 8 in 64-bit mode
inline constexpr Flags kNative = 1u << 6;     // operand size 8 in 64-bit mode, otherwise 4
inline constexpr Flags kString = 1u << 7;     // F3 and F2 repeat
inline constexpr Flags kCondition = 1u << 8;  // the low four opcode bits are Insn::condition
inline constexpr Flags kIgnoreMod = 1u << 9;  // ModRM.mod is taken as 3
inline constexpr Flags kMost4 = 1u << 10;     // operand size at most 4

// An opcode as it is written down.
struct Row {
  std::uint8_t opcode = 0;
  When when;
  Op op = Op::kInvalid;
  std::array<Arg, 4> args{};
  Flags flags = 0;
};

// An opcode as it is looked up: with the conditions that its operands imply.
struct Form {
  std::uint16_t mask = 0;
  std::uint16_t value = 0;
  Op op = Op::kInvalid;
  Flags flags = 0;
  std::array<Arg, 4> args{};
};

// The forms of one opcode.
struct Slot {
  std::uint16_t first = 0;
  std::uint8_t count = 0;
  bool has_modrm = false;
};

struct OpcodeMap {
  const Form* forms = nullptr;
  std::array<Slot, 256> slots{};
};

// The one-byte opcodes but D8..DF; those; and those after 0F, 0F 38 and 0F 3A.
extern const OpcodeMap kOneByteMap;
extern const OpcodeMap kX87Map;
extern const OpcodeMap kTwoByteMap;
extern const OpcodeMap kThreeByteMap38;
extern const OpcodeMap kThreeByteMap3A;

namespace detail {

constexpr Form compile_row(const Row& row) {
  When when = row.when;
  Flags flags = row.flags;
  for (const Arg arg : row.args) {
    if (info_of(arg).where == Where::kModRmMemory) when = when & kInMemory;
    if (info_of(arg).where == Where::kRmRegister && (flags & kIgnoreMod) == 0) {
      when = when & kInRegister;
    }
  }
  const ArgInfo& first = info_of(row.args[0]);
  if (first.kind == OperandKind::kGpr && first.size == 1) flags |= kByte;
  if (first.where == Where::kOffset && first.memory_size == 1) flags |= kByte;
  return {when.mask, when.value, row.op, flags, row.args};
}

constexpr bool needs_modrm(const Form& form) {
  if ((form.mask & key::kModRmMask) != 0) return true;
  for (const Arg arg : form.args) {
    const Where where = info_of(arg).where;
    if (where == Where::kModRmReg || where == Where::kModRmRm) return true;
  }
  return false;
}

}  // namespace detail

template <std::size_t N>
constexpr std::array<Form, N> compile_forms(const Row (&rows)[N]) {
  std::array<Form, N> forms{};
  for (std::size_t i = 0; i < N; ++i) forms[i] = detail::compile_row(rows[i]);
  return forms;
}

// The rows' opcodes must ascend, and ranges must not overlap other rows.
template <std::size_t N>
constexpr bool is_in_order(const Row (&rows)[N]) {
  for (std::size_t i = 1; i < N; ++i) {
    const Flags range = rows[i - 1].flags;
    const int extra = (range & kEight) != 0 ? 7 : (range & kSixteen) != 0 ? 15 : 0;
    const bool same = rows[i].opcode == rows[i - 1].opcode &&
                      (rows[i].flags & (kEight | kSixteen)) == (range & (kEight | kSixteen));
    if (!same && rows[i].opcode <= rows[i - 1].opcode + extra) return false;
  }
  return true;
}

template <std::size_t N>
constexpr OpcodeMap make_map(const Row (&rows)[N], const std::array<Form, N>& forms) {
  OpcodeMap map{.forms = forms.data()};
  for (std::size_t i = 0; i < N; ++i) {
    const Flags range = rows[i].flags;
    const std::size_t count = (range & kEight) != 0 ? 8 : (range & kSixteen) != 0 ? 16 : 1;
    for (std::size_t n = 0; n < count; ++n) {
      Slot& slot = map.slots[rows[i].opcode + n];
      if (slot.count == 0) slot.first = static_cast<std::uint16_t>(i);
      ++slot.count;
      slot.has_modrm = slot.has_modrm || detail::needs_modrm(forms[i]);
    }
  }
  return map;
}

}  // namespace sm::soft
