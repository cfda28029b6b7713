#include "vmm/cpu/soft/decode/zydis_compare.h"

#include <Zydis/Zydis.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>
#include <vector>

#include "vmm/cpu/soft/decode/disassemble.h"

namespace sm::soft {

// One instruction as both see it.
struct ZydisPair {
  std::span<const std::uint8_t> bytes;
  CodeMode mode = CodeMode::k64;
  DecodeResult result = DecodeResult::kOk;
  Insn ours;
  ZyanStatus status = 0;
  ZydisDecodedInstruction theirs{};
  std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands{};

  bool ok() const { return result == DecodeResult::kOk; }
  bool zydis_ok() const { return ZYAN_SUCCESS(status) != 0; }
};

struct ZydisComparison::Zydis {
  ZydisDecoder decoder{};
};

namespace {

using Pair = ZydisPair;

// The operations that are not spelled as Zydis spells them, or stand for several mnemonics.
struct Spelling {
  Op op;
  std::vector<std::string_view> mnemonics;
};

const std::vector<Spelling>& spellings() {
  static const std::vector<Spelling> table{
      {Op::kMovSegment, {"mov"}},
      {Op::kMovControl, {"mov"}},
      {Op::kMovDebug, {"mov"}},
      {Op::kPusha, {"pusha", "pushad"}},
      {Op::kPopa, {"popa", "popad"}},
      {Op::kPushf, {"pushf", "pushfd", "pushfq"}},
      {Op::kPopf, {"popf", "popfd", "popfq"}},
      {Op::kCbw, {"cbw", "cwde", "cdqe"}},
      {Op::kCwd, {"cwd", "cdq", "cqo"}},
      {Op::kCmovcc, {}},  // by condition, as the next two
      {Op::kSetcc, {}},
      {Op::kJcc, {}},
      {Op::kJcxz, {"jcxz", "jecxz", "jrcxz"}},
      {Op::kJmpNear, {"jmp"}},
      {Op::kJmpFar, {"jmp"}},
      {Op::kCallNear, {"call"}},
      {Op::kCallFar, {"call"}},
      {Op::kRetNear, {"ret"}},
      {Op::kRetFar, {"ret"}},
      {Op::kIret, {"iret", "iretd", "iretq"}},
      {Op::kMovs, {"movsb", "movsw", "movsd", "movsq"}},
      {Op::kCmps, {"cmpsb", "cmpsw", "cmpsd", "cmpsq"}},
      {Op::kScas, {"scasb", "scasw", "scasd", "scasq"}},
      {Op::kLods, {"lodsb", "lodsw", "lodsd", "lodsq"}},
      {Op::kStos, {"stosb", "stosw", "stosd", "stosq"}},
      {Op::kIns, {"insb", "insw", "insd"}},
      {Op::kOuts, {"outsb", "outsw", "outsd"}},
      {Op::kMovd, {"movd", "movq"}},
      {Op::kPinsrd, {"pinsrd", "pinsrq"}},
      {Op::kPextrd, {"pextrd", "pextrq"}},
      {Op::kFxsave, {"fxsave", "fxsave64"}},
      {Op::kFxrstor, {"fxrstor", "fxrstor64"}},
      {Op::kEndbr64, {"nop"}},  // as a processor without CET
      {Op::kPrefetch,
       {"prefetch", "prefetchw", "prefetchwt1", "prefetchnta", "prefetcht0", "prefetcht1",
        "prefetcht2", "nop"}},
      {Op::kFnop, {"fnop", "feni8087_nop", "fdisi8087_nop", "fsetpm287_nop"}},
      {Op::kFstp, {"fstp", "fstpnce"}},  // D9 D8, which differs for an empty register only
  };
  return table;
}

constexpr std::array<std::string_view, 16> kConditionSuffixes{
    "o", "no", "b", "nb", "z", "nz", "be", "nbe", "s", "ns", "p", "np", "l", "nl", "le", "nle"};

bool is_spelled(const Insn& insn, std::string_view mnemonic) {
  for (const auto& [op, stem] :
       {std::pair{Op::kCmovcc, "cmov"}, {Op::kSetcc, "set"}, {Op::kJcc, "j"}}) {
    if (insn.op == op)
      return mnemonic == fmt::format("{}{}", stem, kConditionSuffixes[insn.condition]);
  }
  for (const Spelling& spelling : spellings()) {
    if (spelling.op == insn.op) {
      return std::find(spelling.mnemonics.begin(), spelling.mnemonics.end(), mnemonic) !=
             spelling.mnemonics.end();
    }
  }
  const std::string_view name = name_of(insn.op);
  return std::equal(name.begin(), name.end(), mnemonic.begin(), mnemonic.end(), [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) == b;
  });
}

ZydisRegister encode(ZydisRegisterClass kind, unsigned number) {
  return ZydisRegisterEncode(kind, static_cast<ZyanU8>(number));
}

ZydisRegister gpr(unsigned number, unsigned size) {
  if (number == kNoRegister && size != 1) return ZYDIS_REGISTER_NONE;
  if (number == kRipRegister && size != 1)
    return size == 8 ? ZYDIS_REGISTER_RIP : ZYDIS_REGISTER_EIP;
  switch (size) {
    case 1:  // al cl dl bl ah ch dh bh spl ...
      return encode(ZYDIS_REGCLASS_GPR8, number >= 16  ? number - 12
                                         : number >= 4 ? number + 4
                                                       : number);
    case 2:
      return encode(ZYDIS_REGCLASS_GPR16, number);
    case 4:
      return encode(ZYDIS_REGCLASS_GPR32, number);
    default:
      return encode(ZYDIS_REGCLASS_GPR64, number);
  }
}

ZydisRegister register_of(const Operand& operand) {
  switch (operand.kind) {
    case OperandKind::kGpr:
      return gpr(operand.reg, operand.size);
    case OperandKind::kXmm:
      return encode(ZYDIS_REGCLASS_XMM, operand.reg);
    case OperandKind::kMmx:
      return encode(ZYDIS_REGCLASS_MMX, operand.reg);
    case OperandKind::kSt:
      return encode(ZYDIS_REGCLASS_X87, operand.reg);
    case OperandKind::kSegment:
      return encode(ZYDIS_REGCLASS_SEGMENT, operand.reg);
    case OperandKind::kControl:
      return encode(ZYDIS_REGCLASS_CONTROL, operand.reg);
    case OperandKind::kDebug:
      return encode(ZYDIS_REGCLASS_DEBUG, operand.reg);
    default:
      return ZYDIS_REGISTER_NONE;
  }
}

std::string compare_memory(const Insn& ours, const Operand& operand,
                           const ZydisDecodedOperand& theirs) {
  const ZydisDecodedOperandMem& mem = theirs.mem;
  if (mem.base != gpr(ours.base, ours.address_size)) return "base";
  if (mem.index != gpr(ours.index, ours.address_size)) return "index";
  if (mem.index != ZYDIS_REGISTER_NONE && mem.scale != 1 << ours.scale) return "scale";
  // It wraps at the address size.
  const auto unused = static_cast<unsigned>(64 - 8 * ours.address_size);
  if (static_cast<std::uint64_t>(mem.disp.value) << unused !=
      static_cast<std::uint64_t>(ours.displacement) << unused) {
    return "displacement";
  }
  if (mem.type != ZYDIS_MEMOP_TYPE_MEM) return "";  // an address that is not used as one
  if (mem.segment != encode(ZYDIS_REGCLASS_SEGMENT, static_cast<unsigned>(ours.segment))) {
    return "segment";
  }
  return operand.size == 0 || theirs.size == 8 * operand.size ? "" : "memory size";
}

std::string compare_operand(const Insn& ours, const Operand& operand,
                            const ZydisDecodedOperand& theirs) {
  switch (theirs.type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
      return theirs.reg.value == register_of(operand) ? "" : "register";
    case ZYDIS_OPERAND_TYPE_MEMORY:
      if (operand.kind != OperandKind::kMem) return "operand kind";
      return compare_memory(ours, operand, theirs);
    case ZYDIS_OPERAND_TYPE_POINTER:
      if (operand.kind != OperandKind::kFar) return "operand kind";
      return theirs.ptr.offset == ours.imm && theirs.ptr.segment == ours.imm2 ? "" : "far pointer";
    default:
      break;
  }
  if (theirs.imm.is_relative != 0) {
    if (operand.kind != OperandKind::kRel) return "operand kind";
    return theirs.imm.value.s == ours.imm ? "" : "branch distance";
  }
  if (operand.kind == OperandKind::kImm) return theirs.imm.value.s == ours.imm ? "" : "immediate";
  if (operand.kind == OperandKind::kImm2) return theirs.imm.value.s == ours.imm2 ? "" : "immediate";
  return "operand kind";
}

// Zydis lists ST(0) beside another register but not beside memory, nor in FUCOM and FUCOMP.
bool leaves_out_st0(const Insn& ours, const ZydisDecodedInstruction& theirs) {
  return theirs.meta.isa_ext == ZYDIS_ISA_EXT_X87 &&
         ours.operand_count == theirs.operand_count_visible + 1 &&
         ours.operand[0].kind == OperandKind::kSt && ours.operand[0].reg == 0;
}

std::string compare_operands(const Pair& pair) {
  const std::size_t skipped = leaves_out_st0(pair.ours, pair.theirs) ? 1 : 0;
  if (pair.ours.operand_count != pair.theirs.operand_count_visible + skipped) {
    return "operand count";
  }
  for (std::size_t i = 0; i < pair.theirs.operand_count_visible; ++i) {
    std::string difference =
        compare_operand(pair.ours, pair.ours.operand[i + skipped], pair.operands[i]);
    if (!difference.empty()) return difference;
  }
  return "";
}

// What is different in two valid instructions, or nothing.
std::string difference_of(const Pair& pair) {
  const Insn& ours = pair.ours;
  const ZydisDecodedInstruction& theirs = pair.theirs;
  const auto has = [&theirs](ZydisInstructionAttributes bits) {
    return (theirs.attributes & bits) != 0;
  };
  if (ours.length != theirs.length) return "length";
  if (!is_spelled(ours, ZydisMnemonicGetString(theirs.mnemonic))) return "mnemonic";
  if (ours.lock != has(ZYDIS_ATTRIB_HAS_LOCK)) return "lock";
  const bool repne = has(ZYDIS_ATTRIB_HAS_REPNE);
  const bool repeats = repne || has(ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE);
  if (repeats != (ours.repeat != Repeat::kNone)) return "repetition";
  if (repne != (ours.repeat == Repeat::kRepne)) return "repne";
  if (ours.operand_size * 8 != theirs.operand_width) return "operand size";
  if (ours.address_size * 8 != theirs.address_width) return "address size";
  return compare_operands(pair);
}

bool is_any_of(Op op, std::initializer_list<Op> ops) {
  return std::find(ops.begin(), ops.end(), op) != ops.end();
}

// What CPUID hides and the decoder therefore does not know.
bool is_hidden(const ZydisDecodedInstruction& insn) {
  static constexpr std::array kHidden{
      ZYDIS_ISA_EXT_AMD3DNOW,  ZYDIS_ISA_EXT_AMD_INVLPGB, ZYDIS_ISA_EXT_CET,
      ZYDIS_ISA_EXT_CLZERO,    ZYDIS_ISA_EXT_ENQCMD,      ZYDIS_ISA_EXT_GFNI,
      ZYDIS_ISA_EXT_HRESET,    ZYDIS_ISA_EXT_KEYLOCKER,   ZYDIS_ISA_EXT_KEYLOCKER_WIDE,
      ZYDIS_ISA_EXT_KNC,       ZYDIS_ISA_EXT_MCOMMIT,     ZYDIS_ISA_EXT_MONITORX,
      ZYDIS_ISA_EXT_MOVDIR,    ZYDIS_ISA_EXT_PADLOCK,     ZYDIS_ISA_EXT_PCONFIG,
      ZYDIS_ISA_EXT_PKU,       ZYDIS_ISA_EXT_PT,          ZYDIS_ISA_EXT_RDPRU,
      ZYDIS_ISA_EXT_RTM,       ZYDIS_ISA_EXT_SERIALIZE,   ZYDIS_ISA_EXT_SGX,
      ZYDIS_ISA_EXT_SGX_ENCLV, ZYDIS_ISA_EXT_SMX,         ZYDIS_ISA_EXT_SNP,
      ZYDIS_ISA_EXT_SSE4A,     ZYDIS_ISA_EXT_SVM,         ZYDIS_ISA_EXT_TDX,
      ZYDIS_ISA_EXT_TSX_LDTRK, ZYDIS_ISA_EXT_UINTR,       ZYDIS_ISA_EXT_VMFUNC,
      ZYDIS_ISA_EXT_VTX,       ZYDIS_ISA_EXT_WAITPKG,     ZYDIS_ISA_EXT_XSAVE,
      ZYDIS_ISA_EXT_XSAVEC,    ZYDIS_ISA_EXT_XSAVEOPT,    ZYDIS_ISA_EXT_XSAVES};
  return insn.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
         std::find(kHidden.begin(), kHidden.end(), insn.meta.isa_ext) != kHidden.end();
}

// Insn::operand_size means something for general registers, the stack and far transfers.
bool has_operand_size(const Pair& pair) {
  switch (pair.theirs.meta.isa_ext) {
    case ZYDIS_ISA_EXT_BASE:
    case ZYDIS_ISA_EXT_LONGMODE:
    case ZYDIS_ISA_EXT_LZCNT:
    case ZYDIS_ISA_EXT_MOVBE:
    case ZYDIS_ISA_EXT_RDRAND:
    case ZYDIS_ISA_EXT_RDSEED:
    case ZYDIS_ISA_EXT_X87:
      break;
    default:
      return pair.ours.op == Op::kCrc32 || pair.ours.op == Op::kPopcnt;
  }
  return !is_any_of(pair.ours.op,
                    {Op::kNop, Op::kEndbr64, Op::kCmpxchg8b, Op::kInvlpg, Op::kSyscall});
}

// The differences that are meant.
struct KnownDifference {
  std::string_view reason;
  bool (*matches)(const Pair& pair, std::string_view difference);
};

constexpr std::array kKnownDifferences{
    KnownDifference{"CPUID does not have the extension",
                    [](const Pair& pair, std::string_view difference) {
                      return difference == "valid to Zydis" && is_hidden(pair.theirs);
                    }},
    KnownDifference{"RSM is undefined outside system management mode",
                    [](const Pair& pair, std::string_view difference) {
                      return difference == "valid to Zydis" &&
                             pair.theirs.mnemonic == ZYDIS_MNEMONIC_RSM;
                    }},
    KnownDifference{"REPNE is REP for strings that are not compared",
                    [](const Pair& pair, std::string_view difference) {
                      return difference == "repne" && pair.ours.repeat == Repeat::kRep;
                    }},
    KnownDifference{"the operation has no operand size",
                    [](const Pair& pair, std::string_view difference) {
                      return difference == "operand size" && !has_operand_size(pair);
                    }},
    KnownDifference{"INSD and OUTSD with REX.W still transfer 4 bytes",
                    [](const Pair& pair, std::string_view difference) {
                      return difference == "operand size" && pair.theirs.operand_width == 64 &&
                             is_any_of(pair.ours.op, {Op::kIns, Op::kOuts});
                    }},
    KnownDifference{"the operands of NOP, UD0 and UD1 mean nothing",
                    [](const Pair& pair, std::string_view difference) {
                      return is_any_of(pair.ours.op,
                                       {Op::kNop, Op::kEndbr64, Op::kUd0, Op::kUd1}) &&
                             (difference == "register" || difference == "operand count" ||
                              difference == "memory size");
                    }},
    // Only the low bits of the source are used, or the result is zero-extended.
    KnownDifference{"REX.W makes no difference to the register",
                    [](const Pair& pair, std::string_view difference) {
                      return difference == "register" &&
                             is_any_of(pair.ours.op,
                                       {Op::kExtractps, Op::kPextrb, Op::kPextrw, Op::kPinsrb,
                                        Op::kPinsrw, Op::kPmovmskb, Op::kMovmskps, Op::kMovmskpd,
                                        Op::kLar, Op::kLsl});
                    }},
    // Spec: SDM vol. 2, table 2-5: REX.B is not looked at when SIB has no base.
    KnownDifference{"Zydis 4.0 adds r13d where there is no base, with address size 4",
                    [](const Pair& pair, std::string_view difference) {
                      return difference == "base" && pair.theirs.address_width == 32 &&
                             pair.theirs.raw.modrm.mod == 0 && pair.theirs.raw.sib.base == 5;
                    }},
    // Spec: SDM vol. 2, MOVSXD: r16, r/m16. Processors do read two bytes.
    KnownDifference{"Zydis 4.0 lets MOVSXD with operand size 2 read 4 bytes",
                    [](const Pair& pair, std::string_view difference) {
                      return difference == "memory size" && pair.ours.op == Op::kMovsxd &&
                             pair.ours.operand_size == 2;
                    }},
    KnownDifference{"without CET, 3E before an indirect branch names DS",
                    [](const Pair& pair, std::string_view difference) {
                      return difference == "segment" && pair.mode != CodeMode::k64 &&
                             is_any_of(pair.ours.op, {Op::kCallNear, Op::kJmpNear});
                    }},
};

std::string text_of(const Pair& pair) {
  if (!pair.zydis_ok()) return fmt::format("error {:#x}", pair.status);
  ZydisFormatter formatter;
  ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
  std::array<char, 256> buffer{};
  ZydisFormatterFormatInstruction(&formatter, &pair.theirs, pair.operands.data(),
                                  pair.theirs.operand_count_visible, buffer.data(), buffer.size(),
                                  ZYDIS_RUNTIME_ADDRESS_NONE, nullptr);
  return fmt::format("{} (operand size {})", buffer.data(), pair.theirs.operand_width / 8);
}

}  // namespace

ZydisComparison::ZydisComparison(CodeMode mode) : mode_(mode), zydis_(std::make_unique<Zydis>()) {
  ZydisDecoder* decoder = &zydis_->decoder;
  if (mode == CodeMode::k64) {
    ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  } else if (mode == CodeMode::k32) {
    ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
  } else {
    ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
  }
  for (const auto hidden :
       {ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET, ZYDIS_DECODER_MODE_TZCNT,
        ZYDIS_DECODER_MODE_WBNOINVD, ZYDIS_DECODER_MODE_CLDEMOTE}) {
    ZydisDecoderEnableMode(decoder, hidden, ZYAN_FALSE);
  }
}

ZydisComparison::~ZydisComparison() = default;

std::size_t ZydisComparison::compare(std::span<const std::uint8_t> bytes) {
  ++compared_;
  Pair pair;
  pair.bytes = bytes;
  pair.mode = mode_;
  pair.result = decode(bytes, mode_, pair.ours);
  pair.status = ZydisDecoderDecodeFull(&zydis_->decoder, bytes.data(), bytes.size(), &pair.theirs,
                                       pair.operands.data());
  if (!pair.ok() && !pair.zydis_ok()) return 1;
  if (!pair.zydis_ok()) {
    report(pair, "invalid to Zydis");
    return pair.ours.length;
  }
  if (!pair.ok()) {
    report(pair, "valid to Zydis");
    return pair.theirs.length;
  }
  ++valid_;
  const std::string difference = difference_of(pair);
  if (!difference.empty()) report(pair, difference);
  return pair.theirs.length;
}

void ZydisComparison::report(const Pair& pair, const std::string& difference) {
  for (const KnownDifference& known : kKnownDifferences) {
    if (known.matches(pair, difference)) {
      ++explained_[std::string(known.reason)];
      return;
    }
  }
  const std::string key = fmt::format("{} of {}", difference, name_of(pair.ours.op));
  if (unexplained_.contains(key)) return;
  const std::size_t shown = std::min(pair.bytes.size(), kMaxInsnLength);
  unexplained_[key] = fmt::format(
      "{:02x}: {} (result {}, operand size {}); Zydis: {}", fmt::join(pair.bytes.first(shown), " "),
      disassemble(pair.ours), static_cast<int>(pair.result), pair.ours.operand_size, text_of(pair));
}

}  // namespace sm::soft
