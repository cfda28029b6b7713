#include "tests/cpu/generator.h"

#include <algorithm>
#include <cstring>

#include "tests/cpu/host_choices.h"
#include "tests/cpu/model.h"
#include "tests/cpu/native.h"
#include "tests/cpu/sandbox.h"
#include "tests/cpu/values.h"
#include "vmm/cpu/soft/decode/decoder.h"

namespace sm::cpu_fuzz {

using soft::Op;
using soft::OperandKind;

namespace {

// Selector loads would need the host's descriptors; random numbers have no second opinion; BSF with
// F3 is TZCNT here, which our guests do not have.
bool can_be_compared(const soft::Insn& insn, const Form& form) {
  return insn.op != Op::kRdrand && insn.op != Op::kRdseed &&
         !(insn.op == Op::kBsf && form.prefix == 0xF3) &&
         !(insn.op == Op::kPop && insn.operand[0].kind == OperandKind::kSegment);
}

// Writes to both memories.
void poke(std::uint64_t address, const void* bytes, std::size_t size) {
  std::byte* model =
      kind_at(address) == PageKind::kWritable ? Model::bytes(address, size) : nullptr;
  if (model == nullptr) return;
  std::memcpy(model, bytes, size);
  std::memcpy(reinterpret_cast<void*>(address), bytes, size);
}

std::uint64_t peek(std::uint64_t address) {
  std::uint64_t value = 0;
  if (const std::byte* bytes = Model::bytes(address, sizeof(value)); bytes != nullptr) {
    std::memcpy(&value, bytes, sizeof(value));
  }
  return value;
}

// The memory operand's bytes, 0 without one.
std::uint32_t memory_size(const soft::Insn& insn) {
  for (const soft::Operand& operand : insn.operand) {
    if (operand.kind == OperandKind::kMem) return std::max<std::uint32_t>(operand.size, 1);
  }
  return 0;
}

std::uint64_t segment_base(const soft::Insn& insn) {
  if (insn.segment == soft::Segment::kGs) return Native::gs_base();
  return insn.segment == soft::Segment::kFs ? Native::fs_base() : 0;
}

}  // namespace

Generator::Generator(std::string_view only, std::uint64_t seed)
    : random_(seed), pools_(collect_pools(only, random_)) {}

void Generator::begin(std::uint64_t seed) {
  random_ = Random(seed);
  count_ = 0;
  fill_memory();
}

void Generator::fill_memory() {
  Native::protect(false);
  for (std::size_t page = 0; page < kLayout.size(); ++page) {
    if (kLayout[page] != PageKind::kWritable && kLayout[page] != PageKind::kReadOnly) continue;
    for (std::uint64_t i = 0; i < kPage; i += 8) {
      const std::uint64_t value = packed_value(random_);
      std::memcpy(reinterpret_cast<void*>(kSandbox + page * kPage + i), &value, sizeof(value));
    }
  }
  Native::protect(true);
  Model::copy_from_native();
}

void Generator::next(Case& out) {
  while (!try_next(out)) {
  }
}

bool Generator::try_next(Case& out) {
  const Pool& pool = pools_[random_.below(pools_.size())];
  const Form& form = pool.forms[random_.below(pool.forms.size())];
  Text text = compose(form, random_);
  if (pool.op == Op::kEnter) text.bytes[text.after_opcode + 1] &= 3;  // a frame that has room
  if (soft::decode({text.bytes.data(), soft::kMaxInsnLength}, soft::CodeMode::k64, out.insn) !=
          soft::DecodeResult::kOk ||
      out.insn.op != pool.op || !can_be_compared(out.insn, form) ||
      host_reads_otherwise(out.insn, text)) {
    return false;
  }
  out.slot = random_.below(kSlots);
  fill_registers(out);
  if (count_++ % 64 == 0 || pool.group != Group::kInteger) fill_fx(random_, fx_);
  out.before.fx = fx_;
  target_ = 0;
  prepare_integer(out);
  if (!aim(out, text)) return false;
  prepare_pair(out);
  prepare_string(out);
  prepare_stack(out);
  std::copy_n(text.bytes.begin(), out.code.size(), out.code.begin());
  return true;
}

void Generator::fill_registers(Case& out) {
  for (auto& reg : out.before.gpr) reg = integer_value(random_);
  constexpr std::uint64_t kSet = soft::eflags::kStatus | soft::eflags::kId;
  out.before.rflags =
      0x202 | (random_.next() & kSet) | (random_.chance(20) ? std::uint64_t{soft::eflags::kDf} : 0);
}

// Half of the values that an address register of 32 bits has nothing to do with are random.
void Generator::aim_register(Case& out, std::uint8_t reg, std::uint64_t value) {
  if (out.insn.address_size == 4) {
    value = static_cast<std::uint32_t>(value);
    if (random_.chance(50)) value |= random_.next() << 32;
  }
  out.before.gpr[reg] = value;
}

// Makes the memory operand point to target_, by a register or, where none takes part, by its
// displacement. False: the instruction has become another one.
bool Generator::aim(Case& out, Text& text) {
  const std::uint32_t size = memory_size(out.insn);
  if (size == 0 || random_.chance(4)) return true;
  target_ = address_value(random_, size);
  const soft::Insn& insn = out.insn;
  const std::uint64_t wanted = target_ - segment_base(insn);
  const std::uint64_t displaced = wanted - static_cast<std::uint64_t>(insn.displacement);
  auto& gpr = out.before.gpr;
  const bool has_index = insn.index != soft::kNoRegister;
  if (insn.base < soft::kNoRegister) {
    const std::uint64_t index = has_index && insn.index != insn.base ? gpr[insn.index] : 0;
    std::uint64_t base = displaced - (index << insn.scale);
    if (insn.index == insn.base) base /= 1 + (std::uint64_t{1} << insn.scale);
    aim_register(out, insn.base, base);
    return true;
  }
  if (has_index && insn.base == soft::kNoRegister) {
    aim_register(out, insn.index, displaced >> insn.scale);
    return true;
  }
  // Behind the opcode: an absolute address of MOV, or ModRM, perhaps SIB, and the displacement.
  const bool relative = insn.base == soft::kRipRegister;
  const bool is_moffs = insn.op == Op::kMov && text.bytes[text.after_opcode - 1] >= 0xA0 &&
                        text.bytes[text.after_opcode - 1] <= 0xA3;
  const std::uint64_t value = relative ? wanted - slot_address(out.slot) - insn.length : wanted;
  const std::size_t at = text.after_opcode + (is_moffs ? 0 : relative ? 1 : 2);
  std::memcpy(&text.bytes[at], &value, is_moffs ? insn.address_size : 4);
  const Op op = insn.op;
  return soft::decode({text.bytes.data(), soft::kMaxInsnLength}, soft::CodeMode::k64, out.insn) ==
             soft::DecodeResult::kOk &&
         out.insn.op == op;
}

// Registers that have to fit before the memory operand is aimed.
void Generator::prepare_integer(Case& out) {
  auto& gpr = out.before.gpr;
  const soft::Insn& insn = out.insn;
  switch (insn.op) {
    case Op::kBt:
    case Op::kBts:
    case Op::kBtr:
    case Op::kBtc:
      if (insn.operand[1].kind == OperandKind::kGpr && random_.chance(80)) {
        gpr[insn.operand[1].reg] = std::uint64_t{random_.below(2 * 8 * kPage)} - 8 * kPage;
      }
      break;
    case Op::kDiv:
    case Op::kIdiv:
      if (random_.chance(70)) gpr[soft::kRdx] = random_.chance(70) ? 0 : ~std::uint64_t{0};
      if (random_.chance(50)) gpr[soft::kRax] &= 0xFF7F;
      break;
    case Op::kJcxz:
    case Op::kLoop:
    case Op::kLoope:
    case Op::kLoopne:
      gpr[soft::kRcx] = random_.below(4) | random_.next() << 32;
      break;
    case Op::kXlat:
      target_ = address_value(random_, 1);
      aim_register(out, soft::kRbx, target_ - random_.below(256) - segment_base(insn));
      break;
    default:
      break;
  }
}

// Comparisons that succeed, branch targets that can be reached, fresh operands.
void Generator::prepare_pair(Case& out) {
  auto& gpr = out.before.gpr;
  const soft::Insn& insn = out.insn;
  if (target_ != 0 && random_.chance(30)) {
    const std::array<std::uint64_t, 2> fresh{packed_value(random_), packed_value(random_)};
    poke(target_, fresh.data(), random_.chance(50) ? 8 : 16);
  }
  const bool in_memory = insn.operand[0].kind == OperandKind::kMem;
  if (insn.op == Op::kCmpxchg && random_.chance(50)) {
    gpr[soft::kRax] = in_memory                  ? peek(target_)
                      : insn.operand[0].reg < 16 ? gpr[insn.operand[0].reg]
                                                 : gpr[insn.operand[0].reg - 16] >> 8;
  }
  if (insn.op == Op::kCmpxchg8b && random_.chance(50)) {
    gpr[soft::kRax] = (peek(target_) & 0xFFFFFFFF) | random_.next() << 32;
    gpr[soft::kRdx] = peek(target_) >> 32 | random_.next() << 32;
  }
  if (insn.op == Op::kCmpxchg16b && random_.chance(50)) {
    gpr[soft::kRax] = peek(target_);
    gpr[soft::kRdx] = peek(target_ + 8);
  }
  if ((insn.op == Op::kJmpNear || insn.op == Op::kCallNear) && in_memory && random_.chance(60)) {
    const std::uint64_t pointer = address_value(random_, 1);
    poke(target_, &pointer, sizeof(pointer));
  }
}

void Generator::prepare_string(Case& out) {
  const soft::Insn& insn = out.insn;
  switch (insn.op) {
    case Op::kMovs:
    case Op::kCmps:
    case Op::kScas:
    case Op::kLods:
    case Op::kStos:
    case Op::kIns:
    case Op::kOuts:
      break;
    case Op::kMaskmovq:
    case Op::kMaskmovdqu:
      aim_register(out, soft::kRdi, address_value(random_, 16) - segment_base(insn));
      return;
    default:
      return;
  }
  const std::uint64_t source = address_value(random_, insn.operand_size);
  std::uint64_t destination = address_value(random_, insn.operand_size);
  if (random_.chance(30)) destination = source + random_.below(64) - 32;
  aim_register(out, soft::kRsi, source - segment_base(insn));
  aim_register(out, soft::kRdi, destination);
  static constexpr std::array<std::uint64_t, 5> kCounts{4, 32, 256, 2048, 9000};
  std::uint64_t count = random_.below(random_.pick(kCounts));
  if (random_.chance(5)) count = integer_value(random_);
  aim_register(out, soft::kRcx, count);
  // Long runs of equal elements, so that comparisons go on.
  if ((insn.op == Op::kCmps || insn.op == Op::kScas) && random_.chance(60)) {
    std::array<std::uint8_t, 256> run;
    run.fill(static_cast<std::uint8_t>(random_.next()));
    std::memset(&out.before.gpr[soft::kRax], run[0], 8);
    poke(source & ~std::uint64_t{255}, run.data(), random_.below(256) + 1);
    poke(destination & ~std::uint64_t{255}, run.data(), random_.below(256) + 1);
  }
}

void Generator::prepare_stack(Case& out) {
  const soft::Insn& insn = out.insn;
  auto& gpr = out.before.gpr;
  const bool based_on_stack = insn.base == soft::kRsp && target_ != 0;
  switch (insn.op) {
    case Op::kPush:
    case Op::kPushf:
    case Op::kCallNear:
      if (!based_on_stack) gpr[soft::kRsp] = address_value(random_, 8) + 8;
      break;
    case Op::kPop:
      if (!based_on_stack) gpr[soft::kRsp] = address_value(random_, 8);
      break;
    case Op::kPopf:
    case Op::kRetNear: {
      const std::uint64_t top = gpr[soft::kRsp] = address_value(random_, 8);
      const std::uint64_t value =
          insn.op == Op::kPopf ? random_.next() & ~0x100ull : address_value(random_, 1);
      if (random_.chance(70)) poke(top, &value, sizeof(value));
      break;
    }
    case Op::kEnter:
      gpr[soft::kRsp] = address_value(random_, 8) + 8;
      gpr[soft::kRbp] = address_value(random_, 8);
      break;
    case Op::kLeave:
      gpr[soft::kRbp] = address_value(random_, 8);
      break;
    default:
      return;
  }
  if (random_.chance(3)) gpr[soft::kRsp] = integer_value(random_);
}

}  // namespace sm::cpu_fuzz
