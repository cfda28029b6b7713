#include "vmm/cpu/soft/decode/decoder.h"

#include <algorithm>
#include <cstring>

#include "vmm/cpu/soft/decode/opcode_map.h"
#include "vmm/cpu/soft/decode/plain_decoder.h"

namespace sm::soft {
namespace {

constexpr std::uint8_t kSpNumber = 4, kBpNumber = 5;  // of registers, and of what they escape to
constexpr std::uint8_t kBxNumber = 3, kSiNumber = 6, kDiNumber = 7;

// MOV knows CR0, CR2, CR3, CR4 and CR8.
constexpr unsigned kControlRegisters = 0x11D;

class Decoder {
 public:
  Decoder(std::span<const std::uint8_t> bytes, CodeMode mode, Insn& insn)
      : bytes_(bytes.data()),
        end_(std::min(bytes.size(), kMaxInsnLength)),
        mode_(mode),
        insn_(insn) {}

  DecodeResult run() {
    insn_ = Insn{};
    if (!read_prefixes() || !read_opcode() || !select_form()) return result_;
    set_sizes();
    if (memory_ && !read_memory()) return result_;
    for (const Arg arg : form_->args) {
      if (arg == Arg::kNone) break;
      if (!add_operand(info_of(arg))) return result_;
    }
    set_segment();
    if ((form_->flags & kString) != 0) set_repeat();
    if ((form_->flags & kCondition) != 0) insn_.condition = opcode_ & 15;
    insn_.lock = lock_;
    insn_.length = static_cast<std::uint8_t>(position_);
    insn_.op = form_->op;
    return DecodeResult::kOk;
  }

 private:
  bool fail(DecodeResult result) {
    result_ = result;
    return false;
  }

  bool fail_at_end() {
    return fail(end_ == kMaxInsnLength ? DecodeResult::kTooLong : DecodeResult::kTruncated);
  }

  // The next `size` bytes, 1..8, zero-extended.
  bool read(std::size_t size, std::uint64_t& value) {
    const std::size_t left = end_ - position_;
    if (left < size) return fail_at_end();
    value = 0;
    if (left >= sizeof(value)) {  // one load; the usual case
      std::memcpy(&value, bytes_ + position_, sizeof(value));
      value &= ~std::uint64_t{0} >> (64 - 8 * size);
    } else {
      std::memcpy(&value, bytes_ + position_, size);
    }
    position_ += size;
    return true;
  }
  bool read_signed(std::size_t size, std::int64_t& value) {
    std::uint64_t raw = 0;
    if (!read(size, raw)) return false;
    const auto unused = static_cast<unsigned>(64 - 8 * size);
    value = static_cast<std::int64_t>(raw << unused) >> unused;
    return true;
  }
  bool read_byte(std::uint8_t& value) {
    if (position_ == end_) return fail_at_end();
    value = bytes_[position_++];
    return true;
  }

  bool read_prefixes();
  bool read_opcode();
  bool select_form();
  void set_sizes();
  bool read_memory();
  bool read_memory16();
  bool read_sib();
  bool read_displacement(std::size_t size) { return read_signed(size, insn_.displacement); }
  void set_segment();
  void set_repeat();
  bool add_operand(const ArgInfo& info);
  bool add_register(OperandKind kind, std::uint8_t number, std::uint8_t size, bool either);
  bool add_immediate(const ArgInfo& info);
  std::uint8_t bytes_of(std::uint8_t size) const;

  void push(OperandKind kind, std::uint8_t number, std::uint8_t size) {
    insn_.operand[insn_.operand_count++] = {kind, number, size};
  }
  bool is_64() const { return mode_ == CodeMode::k64; }
  std::uint8_t mod() const { return modrm_ >> 6; }
  std::uint8_t reg() const { return (modrm_ >> 3) & 7; }
  std::uint8_t rm() const { return modrm_ & 7; }
  // What REX adds to a register number: 8 or 0.
  std::uint8_t rex_r() const { return static_cast<std::uint8_t>((rex_ & 4) << 1); }
  std::uint8_t rex_x() const { return static_cast<std::uint8_t>((rex_ & 2) << 2); }
  std::uint8_t rex_b() const { return static_cast<std::uint8_t>((rex_ & 1) << 3); }
  bool rex_w() const { return (rex_ & 8) != 0; }

  const std::uint8_t* bytes_;
  std::size_t position_ = 0;
  std::size_t end_;
  CodeMode mode_;
  DecodeResult result_ = DecodeResult::kUndefined;

  std::uint8_t rex_ = 0;     // the whole byte, 0 if there is none
  std::uint8_t repeat_ = 0;  // the last of F3 and F2, or 0
  bool operand_size_prefix_ = false;
  bool address_size_prefix_ = false;
  bool lock_ = false;
  bool has_segment_prefix_ = false;
  Segment segment_prefix_ = Segment::kDs;

  const OpcodeMap* map_ = nullptr;
  const Form* form_ = nullptr;
  std::uint8_t opcode_ = 0;
  std::uint8_t modrm_ = 0;
  bool memory_ = false;  // ModRM names memory
  bool stack_segment_ = false;

  Insn& insn_;
};

// Legacy prefixes in any order, repeated as often as wanted; a REX counts only directly before the
// opcode. Reads the first opcode byte as well. Spec: SDM vol. 2, 2.1.1 and 2.2.1.
bool Decoder::read_prefixes() {
  for (;;) {
    if (!read_byte(opcode_)) return false;
    switch (opcode_) {
      case 0x26:
      case 0x2E:
      case 0x36:
      case 0x3E:
        // In 64-bit mode these four do nothing, and do not undo FS or GS either.
        if (!is_64()) {
          has_segment_prefix_ = true;
          segment_prefix_ = static_cast<Segment>((opcode_ >> 3) & 3);
        }
        break;
      case 0x64:
      case 0x65:
        has_segment_prefix_ = true;
        segment_prefix_ = opcode_ == 0x64 ? Segment::kFs : Segment::kGs;
        break;
      case 0x66:
        operand_size_prefix_ = true;
        break;
      case 0x67:
        address_size_prefix_ = true;
        break;
      case 0xF0:
        lock_ = true;
        break;
      case 0xF2:
      case 0xF3:
        repeat_ = opcode_;
        break;
      default:
        if (!is_64() || (opcode_ & 0xF0) != 0x40) return true;
        rex_ = opcode_;
        continue;
    }
    rex_ = 0;
  }
}

bool Decoder::read_opcode() {
  if (opcode_ != 0x0F) {
    map_ = (opcode_ & 0xF8) == 0xD8 ? &kX87Map : &kOneByteMap;
    return true;
  }
  map_ = &kTwoByteMap;
  if (!read_byte(opcode_)) return false;
  if (opcode_ != 0x38 && opcode_ != 0x3A) return true;
  map_ = opcode_ == 0x38 ? &kThreeByteMap38 : &kThreeByteMap3A;
  return read_byte(opcode_);
}

bool Decoder::select_form() {
  const Slot slot = map_->slots[opcode_];
  unsigned found = 0;
  if (slot.has_modrm) {
    if (!read_byte(modrm_)) return false;
    memory_ = mod() != 3;
    found |= static_cast<unsigned>(reg() << key::kRegShift | rm() << key::kRmShift);
    if (!memory_) found |= key::kMod3;
  }
  if (is_64()) found |= key::k64;
  if (rex_b() != 0) found |= key::kRexB;
  if (rex_w()) found |= key::kRexW;
  if (repeat_ != 0) {
    found |= repeat_ == 0xF3 ? key::kPrefixF3 : key::kPrefixF2;
  } else if (operand_size_prefix_) {
    found |= key::kPrefix66;
  }
  const Form* const first = map_->forms + slot.first;
  const Form* const last = first + slot.count;
  form_ = std::find_if(first, last, [found](const Form& f) { return (found & f.mask) == f.value; });
  if (form_ == last || form_->op == Op::kInvalid) return fail(DecodeResult::kUndefined);
  if ((form_->flags & kIgnoreMod) != 0) memory_ = false;
  if (lock_ && ((form_->flags & kLock) == 0 || !memory_)) return fail(DecodeResult::kUndefined);
  return true;
}

// Spec: SDM vol. 1, 3.6 and table 3-4; vol. 2, 2.2.1.7.
void Decoder::set_sizes() {
  const Flags flags = form_->flags;
  if ((flags & kByte) != 0) {
    insn_.operand_size = 1;
  } else if ((flags & kNative) != 0) {
    insn_.operand_size = is_64() ? 8 : 4;
  } else if (is_64()) {
    const bool is_wide =
        rex_w() || (flags & kForce64) != 0 || ((flags & kDefault64) != 0 && !operand_size_prefix_);
    const std::uint8_t widest = (flags & kMost4) != 0 ? 4 : 8;
    insn_.operand_size = is_wide ? widest : operand_size_prefix_ ? 2 : 4;
  } else {
    insn_.operand_size = (mode_ == CodeMode::k32) != operand_size_prefix_ ? 4 : 2;
  }
  if (is_64()) {
    insn_.address_size = address_size_prefix_ ? 4 : 8;
  } else {
    insn_.address_size = (mode_ == CodeMode::k32) != address_size_prefix_ ? 4 : 2;
  }
}

// Spec: SDM vol. 2, tables 2-1 and 2-2.
bool Decoder::read_memory() {
  if (insn_.address_size == 2) return read_memory16();
  if (rm() == kSpNumber) return read_sib();
  if (rm() == kBpNumber && mod() == 0) {
    if (is_64()) insn_.base = kRipRegister;
    return read_displacement(4);
  }
  insn_.base = rm() | rex_b();
  stack_segment_ = insn_.base == kBpNumber;
  return mod() == 0 || read_displacement(mod() == 1 ? 1 : 4);
}

// Spec: SDM vol. 2, tables 2-3 and 2-5.
bool Decoder::read_sib() {
  std::uint8_t sib = 0;
  if (!read_byte(sib)) return false;
  const auto index = static_cast<std::uint8_t>(((sib >> 3) & 7) | rex_x());
  if (index != kSpNumber) {
    insn_.index = index;
    insn_.scale = sib >> 6;
  }
  if ((sib & 7) == kBpNumber && mod() == 0) return read_displacement(4);
  insn_.base = static_cast<std::uint8_t>((sib & 7) | rex_b());
  stack_segment_ = insn_.base == kSpNumber || insn_.base == kBpNumber;
  return mod() == 0 || read_displacement(mod() == 1 ? 1 : 4);
}

bool Decoder::read_memory16() {
  struct Pair {
    std::uint8_t base, index;
  };
  static constexpr std::array<Pair, 8> kPairs{{{kBxNumber, kSiNumber},
                                               {kBxNumber, kDiNumber},
                                               {kBpNumber, kSiNumber},
                                               {kBpNumber, kDiNumber},
                                               {kSiNumber, kNoRegister},
                                               {kDiNumber, kNoRegister},
                                               {kBpNumber, kNoRegister},
                                               {kBxNumber, kNoRegister}}};
  if (mod() == 0 && rm() == 6) return read_displacement(2);
  insn_.base = kPairs[rm()].base;
  insn_.index = kPairs[rm()].index;
  stack_segment_ = insn_.base == kBpNumber;
  return mod() == 0 || read_displacement(mod());
}

void Decoder::set_segment() {
  insn_.segment = stack_segment_ ? Segment::kSs : Segment::kDs;
  if (has_segment_prefix_) insn_.segment = segment_prefix_;
}

// F2 tells "while not equal" from "while equal" only where something is compared.
void Decoder::set_repeat() {
  if (repeat_ == 0) return;
  const bool compares = form_->op == Op::kCmps || form_->op == Op::kScas;
  insn_.repeat = repeat_ == 0xF2 && compares ? Repeat::kRepne : Repeat::kRep;
}

std::uint8_t Decoder::bytes_of(std::uint8_t size) const {
  if (size < kSizeV) return size;
  const std::uint8_t operand = insn_.operand_size;
  switch (size) {
    case kSizeV:
      return operand;
    case kSizeY:
      return rex_w() ? 8 : 4;
    case kSizeZ:
      return std::min<std::uint8_t>(operand, 4);
    case kSize2V:
      return static_cast<std::uint8_t>(2 * operand);
    case kSizeFar:
      return static_cast<std::uint8_t>(operand + 2);
    case kSizeTable:
      return is_64() ? 10 : 6;
    case kSizeEnv:
      return operand == 2 ? 14 : 28;
    case kSizeState:
      return operand == 2 ? 94 : 108;
    case kSizeNative:
      return is_64() ? 8 : 4;
    default:
      return insn_.address_size;
  }
}

bool Decoder::add_operand(const ArgInfo& info) {
  switch (info.where) {
    case Where::kModRmReg:
      return add_register(info.kind, reg() | rex_r(), bytes_of(info.size), info.either);
    case Where::kModRmRm:
    case Where::kModRmMemory:
    case Where::kRmRegister:
      if (!memory_) {
        return add_register(info.kind, rm() | rex_b(), bytes_of(info.size), info.either);
      }
      // What is 4 or 8 bytes of an MMX operand is 16 of an XMM one.
      push(OperandKind::kMem, 0,
           info.either && operand_size_prefix_ ? 16 : bytes_of(info.memory_size));
      return true;
    case Where::kOpcode:
      return add_register(info.kind, (opcode_ & 7) | rex_b(), bytes_of(info.size), false);
    case Where::kFixed:
      push(info.kind, info.fixed, bytes_of(info.size));
      return true;
    case Where::kOffset: {
      std::uint64_t offset = 0;
      if (!read(bytes_of(info.size), offset)) return false;
      insn_.displacement = static_cast<std::int64_t>(offset);
      push(OperandKind::kMem, 0, bytes_of(info.memory_size));
      return true;
    }
    default:
      return add_immediate(info);
  }
}

// `number` with its REX bit, which not every kind of register has.
bool Decoder::add_register(OperandKind kind, std::uint8_t number, std::uint8_t size, bool either) {
  if (either && operand_size_prefix_) {
    kind = OperandKind::kXmm;
    size = 16;
  }
  switch (kind) {
    case OperandKind::kGpr:
      if (size == 1 && rex_ == 0 && number >= 4) number += 12;  // AH, CH, DH, BH
      break;
    case OperandKind::kSegment:
      number &= 7;
      if (number > static_cast<std::uint8_t>(Segment::kGs)) return fail(DecodeResult::kUndefined);
      break;
    case OperandKind::kControl:
      if ((kControlRegisters >> number & 1) == 0) return fail(DecodeResult::kUndefined);
      break;
    case OperandKind::kDebug:
      if (number > 7) return fail(DecodeResult::kUndefined);
      break;
    case OperandKind::kMmx:
    case OperandKind::kSt:
      number &= 7;
      break;
    default:
      break;
  }
  push(kind, number, size);
  return true;
}

bool Decoder::add_immediate(const ArgInfo& info) {
  const std::uint8_t size = bytes_of(info.size);
  std::uint64_t value = info.fixed;
  switch (info.where) {
    case Where::kImmediate:
      if (!read_signed(size, insn_.imm)) return false;
      break;
    case Where::kUnsigned:
      if (!read(size, value)) return false;
      insn_.imm = static_cast<std::int64_t>(value);
      break;
    case Where::kSecond:
      if (!read(size, value)) return false;
      insn_.imm2 = static_cast<std::uint16_t>(value);
      break;
    case Where::kFarPointer: {
      std::uint64_t selector = 0;
      if (!read(size, value) || !read(2, selector)) return false;
      insn_.imm = static_cast<std::int64_t>(value);
      insn_.imm2 = static_cast<std::uint16_t>(selector);
      break;
    }
    default:  // Where::kConstant
      insn_.imm = static_cast<std::int64_t>(value);
      break;
  }
  push(info.kind, 0, size);
  return true;
}

}  // namespace

DecodeResult decode(std::span<const std::uint8_t> bytes, CodeMode mode, Insn& out) {
  if (mode == CodeMode::k64 && bytes.size() >= kPlainBytes && decode_plain(bytes.data(), out)) {
    return DecodeResult::kOk;
  }
  return Decoder(bytes, mode, out).run();
}

}  // namespace sm::soft
