// PlainForm: what an opcode means where nothing but a REX and a segment prefix stands before it, in
// 64-bit mode: most of what programs consist of. Everything that the opcode maps say of it is
// worked out by the compiler, so that plain_decoder.cc only puts numbers in.
// Spec: SDM vol. 2, 2.1, 2.2.1 and appendix A.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "vmm/cpu/soft/decode/opcode_map.h"

namespace sm::soft {

// Where an operand's register number comes from.
enum class NumberFrom : std::uint8_t { kModRmReg, kModRmRm, kOpcode, kNowhere };

// Bits of PlainForm::mods: what ModRM.mod may say.
inline constexpr std::uint8_t kModMemory = 1, kModRegister = 2;

struct PlainForm {
  // What depends on REX.W.
  struct Sizes {
    std::uint8_t operand_size = 0;
    std::uint8_t memory = 0;     // bytes of the operand in memory
    std::uint8_t immediate = 0;  // bytes of the immediate
    std::array<Operand, 3> operand{};
  };
  static constexpr std::uint8_t kNoMemory = 3;

  Op op = Op::kInvalid;  // kInvalid: there is more to be known than this
  std::uint8_t operand_count = 0;
  std::uint8_t memory_operand = kNoMemory;  // which operand may be memory
  std::uint8_t mods = kModMemory | kModRegister;
  std::uint8_t constant = 0;  // an immediate without bytes
  bool is_unsigned = false;   // the immediate
  bool has_condition = false;
  std::array<NumberFrom, 4> number{NumberFrom::kNowhere, NumberFrom::kNowhere, NumberFrom::kNowhere,
                                   NumberFrom::kNowhere};
  std::array<Sizes, 2> sizes{};  // [REX.W]
};

struct PlainSlot {
  std::uint16_t first = 0;    // of PlainMap::forms
  std::uint8_t reg_mask = 0;  // 7: one form for each value of ModRM.reg; 0: one form
  bool has_modrm = false;
};

struct PlainMap {
  const PlainForm* forms = nullptr;
  std::array<PlainSlot, 256> slots{};
};

// Of kOneByteMap and kTwoByteMap.
extern const PlainMap kOneBytePlainMap;
extern const PlainMap kTwoBytePlainMap;

namespace detail {

constexpr std::uint8_t kUnknownSize = 255;

// Bytes by the names of operand_encoding.h.
constexpr std::uint8_t plain_size(std::uint8_t size, std::uint8_t operand_size, bool rex_w) {
  if (size < kSizeV) return size;
  switch (size) {
    case kSizeV:
      return operand_size;
    case kSizeY:
      return rex_w ? 8 : 4;
    case kSizeZ:
      return operand_size < 4 ? operand_size : 4;
    default:
      return kUnknownSize;
  }
}

constexpr std::uint8_t plain_operand_size(Flags flags, bool rex_w) {
  if ((flags & kByte) != 0) return 1;
  if ((flags & kNative) != 0) return 8;
  const bool is_wide = rex_w || (flags & (kForce64 | kDefault64)) != 0;
  return !is_wide || (flags & kMost4) != 0 ? 4 : 8;
}

// False: the general decoder has to look.
constexpr bool add_plain_operand(const ArgInfo& info, bool rex_w, std::size_t i, PlainForm& form) {
  PlainForm::Sizes& sizes = form.sizes[rex_w ? 1 : 0];
  const std::uint8_t size = plain_size(info.size, sizes.operand_size, rex_w);
  const std::uint8_t memory = plain_size(info.memory_size, sizes.operand_size, rex_w);
  if (size == kUnknownSize || memory == kUnknownSize) return false;
  if (info.either || i >= sizes.operand.size()) return false;
  sizes.operand[i] = {info.kind, info.where == Where::kFixed ? info.fixed : std::uint8_t{0}, size};
  const bool is_register = info.kind == OperandKind::kGpr || info.kind == OperandKind::kXmm;
  switch (info.where) {
    case Where::kModRmReg:
      form.number[i] = NumberFrom::kModRmReg;
      return is_register;
    case Where::kModRmRm:
    case Where::kModRmMemory:
    case Where::kRmRegister:
      form.number[i] = NumberFrom::kModRmRm;
      form.memory_operand = static_cast<std::uint8_t>(i);
      sizes.memory = memory;
      return is_register || info.where == Where::kModRmMemory;
    case Where::kOpcode:
      form.number[i] = NumberFrom::kOpcode;
      return is_register;
    case Where::kFixed:
      return is_register;
    case Where::kImmediate:
    case Where::kUnsigned:
      form.is_unsigned = info.where == Where::kUnsigned;
      sizes.immediate = size;
      return true;
    case Where::kConstant:
      form.constant = info.fixed;
      return true;
    default:
      return false;
  }
}

constexpr PlainForm make_plain(const Form& form, std::uint8_t mods) {
  // What these say is either worked out here, or of prefixes that a plain form does not have.
  constexpr Flags kUnderstood = kEight | kSixteen | kLock | kByte | kDefault64 | kForce64 |
                                kNative | kString | kCondition | kMost4;
  PlainForm plain;
  if ((form.flags & ~kUnderstood) != 0) return plain;
  plain.mods = mods;
  plain.has_condition = (form.flags & kCondition) != 0;
  for (const bool rex_w : {false, true}) {
    plain.sizes[rex_w ? 1 : 0].operand_size = plain_operand_size(form.flags, rex_w);
    plain.operand_count = 0;
    for (const Arg arg : form.args) {
      if (arg == Arg::kNone) break;
      if (!add_plain_operand(info_of(arg), rex_w, plain.operand_count++, plain)) return {};
    }
  }
  plain.op = form.op;
  return plain;
}

// The form of an opcode with that ModRM.reg, when no more decides than whether it is memory.
constexpr PlainForm find_plain(const OpcodeMap& map, std::size_t opcode, std::uint16_t reg) {
  constexpr std::uint16_t kKnown = 7u << key::kRegShift | key::k64 | key::kPrefixMask;
  const auto known = static_cast<std::uint16_t>(reg << key::kRegShift | key::k64);
  const Slot& slot = map.slots[opcode];
  for (std::size_t i = 0; i < slot.count; ++i) {
    const Form& form = map.forms[slot.first + i];
    if ((form.mask & kKnown & (form.value ^ known)) != 0) continue;
    const auto unknown = static_cast<std::uint16_t>(form.mask & ~kKnown);
    if (form.op == Op::kInvalid || (unknown & ~key::kMod3) != 0) return {};
    const std::uint8_t mods = unknown == 0                     ? kModMemory | kModRegister
                              : (form.value & key::kMod3) != 0 ? kModRegister
                                                               : kModMemory;
    PlainForm plain = make_plain(form, mods);
    if (slot.has_modrm && plain.memory_operand == PlainForm::kNoMemory) {
      plain.mods &= kModRegister;
    }
    // Another form of the same opcode for the other ModRM.mod is the general decoder's.
    return plain;
  }
  return {};
}

constexpr bool depends_on_reg(const OpcodeMap& map, std::size_t opcode) {
  const Slot& slot = map.slots[opcode];
  for (std::size_t i = 0; i < slot.count; ++i) {
    if ((map.forms[slot.first + i].mask & 7u << key::kRegShift) != 0) return true;
  }
  return false;
}

}  // namespace detail

constexpr std::size_t count_plain(const OpcodeMap& map) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < map.slots.size(); ++i) {
    count += detail::depends_on_reg(map, i) ? std::size_t{8} : 1;
  }
  return count;
}

template <std::size_t N>
constexpr std::array<PlainForm, N> plain_forms(const OpcodeMap& map) {
  std::array<PlainForm, N> forms{};
  std::size_t at = 0;
  for (std::size_t i = 0; i < map.slots.size(); ++i) {
    const std::uint16_t count = detail::depends_on_reg(map, i) ? 8 : 1;
    for (std::uint16_t reg = 0; reg < count; ++reg) forms[at++] = detail::find_plain(map, i, reg);
  }
  return forms;
}

constexpr PlainMap make_plain_map(const OpcodeMap& map, const PlainForm* forms) {
  PlainMap plain{.forms = forms};
  std::uint16_t at = 0;
  for (std::size_t i = 0; i < map.slots.size(); ++i) {
    const bool by_reg = detail::depends_on_reg(map, i);
    plain.slots[i] = {at, static_cast<std::uint8_t>(by_reg ? 7 : 0), map.slots[i].has_modrm};
    at = static_cast<std::uint16_t>(at + (by_reg ? 8 : 1));
  }
  return plain;
}

}  // namespace sm::soft
