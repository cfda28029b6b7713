#include "vmm/cpu/soft/decode/disassemble.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

namespace sm::soft {
namespace {

using Names = std::array<std::string_view, 16>;

constexpr Names kNames64{"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                         "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
constexpr Names kNames32{"eax", "ecx", "edx",  "ebx",  "esp",  "ebp",  "esi",  "edi",
                         "r8d", "r9d", "r10d", "r11d", "r12d", "r13d", "r14d", "r15d"};
constexpr Names kNames16{"ax",  "cx",  "dx",   "bx",   "sp",   "bp",   "si",   "di",
                         "r8w", "r9w", "r10w", "r11w", "r12w", "r13w", "r14w", "r15w"};
constexpr Names kNames8{"al",  "cl",  "dl",   "bl",   "spl",  "bpl",  "sil",  "dil",
                        "r8b", "r9b", "r10b", "r11b", "r12b", "r13b", "r14b", "r15b"};
constexpr Names kHighNames{"ah", "ch", "dh", "bh"};
constexpr Names kConditions{"o", "no", "b", "ae", "e", "ne", "be", "a",
                            "s", "ns", "p", "np", "l", "ge", "le", "g"};
constexpr Names kSegments{"es", "cs", "ss", "ds", "fs", "gs"};

constexpr std::array<std::string_view, static_cast<std::size_t>(Op::kCount)> kOpNames{
    "Invalid",
#define SM_SOFT_OP(name) std::string_view(#name).substr(1),
#include "vmm/cpu/soft/ops.def"
#undef SM_SOFT_OP
};

std::string_view gpr_name(unsigned number, unsigned size) {
  if (number >= kNames64.size()) {
    if (size == 1) return kHighNames[(number - kNames64.size()) % 4];
    return size == 4 ? "eip" : "rip";
  }
  switch (size) {
    case 1:
      return kNames8[number];
    case 2:
      return kNames16[number];
    case 4:
      return kNames32[number];
    default:
      return kNames64[number];
  }
}

// What tells mnemonics of one operation apart by size: cbw and cwde, movsb and movsd.
char size_letter(unsigned size) {
  return size == 1 ? 'b' : size == 2 ? 'w' : size == 4 ? 'd' : 'q';
}

std::string mnemonic(const Insn& insn) {
  switch (insn.op) {
    case Op::kJcc:
      return fmt::format("j{}", kConditions[insn.condition & 15]);
    case Op::kSetcc:
      return fmt::format("set{}", kConditions[insn.condition & 15]);
    case Op::kCmovcc:
      return fmt::format("cmov{}", kConditions[insn.condition & 15]);
    case Op::kMovSegment:
    case Op::kMovControl:
    case Op::kMovDebug:
      return "mov";
    case Op::kJmpNear:
      return "jmp";
    case Op::kCallNear:
      return "call";
    case Op::kRetNear:
      return "ret";
    case Op::kJmpFar:
      return "jmp far";
    case Op::kCallFar:
      return "call far";
    case Op::kRetFar:
      return "retf";
    case Op::kCbw:
      return insn.operand_size == 2 ? "cbw" : insn.operand_size == 4 ? "cwde" : "cdqe";
    case Op::kCwd:
      return insn.operand_size == 2 ? "cwd" : insn.operand_size == 4 ? "cdq" : "cqo";
    default:
      break;
  }
  std::string text(name_of(insn.op));
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  switch (insn.op) {
    case Op::kMovs:
    case Op::kCmps:
    case Op::kScas:
    case Op::kLods:
    case Op::kStos:
    case Op::kIns:
    case Op::kOuts:
    case Op::kIret:
    case Op::kPushf:
    case Op::kPopf:
    case Op::kPusha:
    case Op::kPopa:
      text += size_letter(insn.operand_size);
      break;
    default:
      break;
  }
  return text;
}

std::string signed_hex(std::int64_t value, bool plus) {
  const auto bits = static_cast<std::uint64_t>(value);
  if (value < 0) return fmt::format("-{:#x}", 0 - bits);
  return fmt::format("{}{:#x}", plus ? "+" : "", bits);
}

// Registers tell the size of memory beside them, but CL, which may count shifts; otherwise it is
// written.
std::string_view size_text(const Insn& insn, const Operand& memory) {
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const OperandKind kind = insn.operand[i].kind;
    const bool tells =
        kind == OperandKind::kGpr || kind == OperandKind::kXmm || kind == OperandKind::kMmx;
    const bool is_cl =
        kind == OperandKind::kGpr && insn.operand[i].size == 1 && insn.operand[i].reg == 1;
    if (tells && !is_cl && insn.operand[i].size == memory.size) return "";
  }
  switch (memory.size) {
    case 1:
      return "byte ";
    case 2:
      return "word ";
    case 4:
      return "dword ";
    case 8:
      return "qword ";
    case 10:
      return "tbyte ";
    case 16:
      return "xmmword ";
    default:
      return "";
  }
}

std::string memory_text(const Insn& insn, const Operand& memory) {
  std::string text(size_text(insn, memory));
  const bool on_stack = insn.base == 4 || insn.base == 5;
  if (insn.segment != (on_stack ? Segment::kSs : Segment::kDs)) {
    text += fmt::format("{}:", kSegments[static_cast<std::size_t>(insn.segment) & 15]);
  }
  text += '[';
  const bool has_base = insn.base != kNoRegister;
  const bool has_index = insn.index != kNoRegister;
  if (has_base) text += gpr_name(insn.base, insn.address_size);
  if (has_index) {
    text += fmt::format("{}{}", has_base ? "+" : "", gpr_name(insn.index, insn.address_size));
    if (insn.scale != 0) text += fmt::format("*{}", 1 << insn.scale);
  }
  if (!has_base && !has_index) {
    text += fmt::format("{:#x}", static_cast<std::uint64_t>(insn.displacement));
  } else if (insn.displacement != 0) {
    text += signed_hex(insn.displacement, true);
  }
  return text + ']';
}

std::string operand_text(const Insn& insn, const Operand& operand) {
  switch (operand.kind) {
    case OperandKind::kNone:
      return "";
    case OperandKind::kGpr:
      return std::string(gpr_name(operand.reg, operand.size));
    case OperandKind::kMem:
      return memory_text(insn, operand);
    case OperandKind::kImm:
      return signed_hex(insn.imm, false);
    case OperandKind::kImm2:
      return signed_hex(insn.imm2, false);
    case OperandKind::kRel:
      return signed_hex(insn.imm, true);
    case OperandKind::kFar:
      return fmt::format("{:#x}:{:#x}", insn.imm2, insn.imm);
    case OperandKind::kXmm:
      return fmt::format("xmm{}", operand.reg);
    case OperandKind::kMmx:
      return fmt::format("mm{}", operand.reg);
    case OperandKind::kSt:
      return fmt::format("st{}", operand.reg);
    case OperandKind::kSegment:
      return std::string(kSegments[operand.reg & 15]);
    case OperandKind::kControl:
      return fmt::format("cr{}", operand.reg);
    case OperandKind::kDebug:
      return fmt::format("dr{}", operand.reg);
  }
  return "";
}

}  // namespace

std::string_view name_of(Op op) {
  const auto index = static_cast<std::size_t>(op);
  return index < kOpNames.size() ? kOpNames[index] : "Invalid";
}

std::string disassemble(const Insn& insn) {
  std::string text;
  if (insn.lock) text += "lock ";
  if (insn.repeat == Repeat::kRep) text += "rep ";
  if (insn.repeat == Repeat::kRepne) text += "repne ";
  text += mnemonic(insn);
  for (unsigned i = 0; i < insn.operand_count && i < insn.operand.size(); ++i) {
    text += i == 0 ? " " : ", ";
    text += operand_text(insn, insn.operand[i]);
  }
  return text;
}

}  // namespace sm::soft
