#include "vmm/cpu/soft/decode/plain_decoder.h"

#include <array>
#include <cstring>

#include "vmm/cpu/soft/decode/plain_form.h"

namespace sm::soft {
namespace {

// Of registers, and of what they escape to.
constexpr std::uint8_t kRspOrSib = 4, kRbpOrNone = 5;

// A segment's prefix, REX, 0F, the opcode, ModRM, SIB and four bytes of displacement before the
// last immediate, which is read by eight bytes; displacements are read so, too.
static_assert(kPlainBytes >= 6 + 4 + 8);

// `size` bytes, 0 (which gives 0), 1, 2, 4 or 8.
std::int64_t load(const std::uint8_t* at, std::size_t size, bool is_unsigned) {
  if (size == 0) return 0;
  std::uint64_t raw = 0;
  std::memcpy(&raw, at, sizeof(raw));
  const auto unused = static_cast<unsigned>(64 - 8 * size);
  raw <<= unused;
  return is_unsigned ? static_cast<std::int64_t>(raw >> unused)
                     : static_cast<std::int64_t>(raw) >> unused;
}

// What the bytes from ModRM on say of memory. Spec: SDM vol. 2, tables 2-2, 2-3 and 2-5; 2.2.1.6.
const std::uint8_t* read_memory(const std::uint8_t* at, std::uint8_t rex, Insn& out) {
  const std::uint8_t modrm = *at++;
  const unsigned mod = modrm >> 6;
  std::size_t displacement = mod == 0 ? 0 : mod == 1 ? 1 : 4;
  std::uint8_t base = modrm & 7;
  if (base == kRspOrSib) {
    const std::uint8_t sib = *at++;
    const auto index = static_cast<std::uint8_t>(((sib >> 3) & 7) | (rex & 2) << 2);
    if (index != kRspOrSib) {
      out.index = index;
      out.scale = sib >> 6;
    }
    base = sib & 7;
    if (base == kRbpOrNone && mod == 0) {
      displacement = 4;
      base = kNoRegister;
    }
  } else if (base == kRbpOrNone && mod == 0) {
    displacement = 4;
    base = kRipRegister;
  }
  if (base < kNoRegister) {
    base = static_cast<std::uint8_t>(base | (rex & 1) << 3);
    if (base == kRspOrSib || base == kRbpOrNone) out.segment = Segment::kSs;
  }
  out.base = base;
  out.displacement = load(at, displacement, false);
  return at + displacement;
}

}  // namespace

bool decode_plain(const std::uint8_t* bytes, Insn& out) {
  const std::uint8_t* at = bytes;
  std::uint8_t opcode = *at++, rex = 0, segment_prefix = 0;
  if ((opcode & 0xFE) == 0x64) {
    segment_prefix = opcode;
    opcode = *at++;
  }
  if ((opcode & 0xF0) == 0x40) {
    rex = opcode;
    opcode = *at++;
  }
  const PlainMap* map = &kOneBytePlainMap;
  if (opcode == 0x0F) {
    map = &kTwoBytePlainMap;
    opcode = *at++;
  }
  const PlainSlot slot = map->slots[opcode];
  const std::uint8_t modrm = *at;
  const PlainForm& form = map->forms[slot.first + ((modrm >> 3) & slot.reg_mask)];
  const bool is_memory = slot.has_modrm && modrm < 0xC0;
  if (form.op == Op::kInvalid || (form.mods & (is_memory ? kModMemory : kModRegister)) == 0) {
    return false;
  }

  const PlainForm::Sizes& sizes = form.sizes[rex >> 3 & 1];
  out = Insn{.op = form.op,
             .operand_size = sizes.operand_size,
             .address_size = 8,
             .condition = static_cast<std::uint8_t>(form.has_condition ? opcode & 15 : 0),
             .operand_count = form.operand_count};
  if (is_memory) {
    at = read_memory(at, rex, out);
  } else if (slot.has_modrm) {
    ++at;
  }
  const std::array<std::uint8_t, 4> numbers{
      static_cast<std::uint8_t>((modrm >> 3 & 7) | (rex & 4) << 1),
      static_cast<std::uint8_t>((modrm & 7) | (rex & 1) << 3),
      static_cast<std::uint8_t>((opcode & 7) | (rex & 1) << 3), 0};
  for (std::size_t i = 0; i < sizes.operand.size(); ++i) {
    Operand& operand = out.operand[i];
    operand = sizes.operand[i];
    const std::uint8_t number = numbers[static_cast<std::size_t>(form.number[i])];
    // AH, CH, DH, BH.
    const bool is_high =
        operand.kind == OperandKind::kGpr && operand.size == 1 && rex == 0 && number >= 4;
    operand.reg = static_cast<std::uint8_t>(operand.reg + number + (is_high ? 12 : 0));
  }
  if (is_memory) out.operand[form.memory_operand] = {OperandKind::kMem, 0, sizes.memory};
  out.imm = load(at, sizes.immediate, form.is_unsigned) + form.constant;
  at += sizes.immediate;
  if (segment_prefix != 0) out.segment = segment_prefix == 0x64 ? Segment::kFs : Segment::kGs;
  out.length = static_cast<std::uint8_t>(at - bytes);
  return true;
}

}  // namespace sm::soft
