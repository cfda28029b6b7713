// Fuzzes the instruction decoder of the software CPU: it stays within the bytes it is given and
// within 15 bytes, what it says does not depend on bytes behind the instruction, and every Insn it
// gives is within the bounds that the semantic functions rely on.
// The first byte of an input chooses the code mode.
#include "vmm/cpu/soft/decode/decoder.h"

#include <algorithm>
#include <memory>
#include <span>

#include "base/check.h"
#include "vmm/cpu/soft/decode/disassemble.h"

namespace {

using sm::soft::CodeMode;
using sm::soft::DecodeResult;
using sm::soft::Insn;
using sm::soft::Operand;
using sm::soft::OperandKind;

// In memory of exactly that size, so that the sanitizer sees every byte too many.
DecodeResult decode_copy(std::span<const std::uint8_t> bytes, CodeMode mode, Insn& insn) {
  const auto copy = std::make_unique<std::uint8_t[]>(bytes.size());
  std::copy(bytes.begin(), bytes.end(), copy.get());
  return sm::soft::decode({copy.get(), bytes.size()}, mode, insn);
}

std::uint8_t register_count(const Operand& operand) {
  switch (operand.kind) {
    case OperandKind::kGpr:
      return operand.size == 1 ? 20 : 16;
    case OperandKind::kXmm:
      return 16;
    case OperandKind::kSegment:
      return 6;
    case OperandKind::kControl:
      return 9;
    case OperandKind::kMmx:
    case OperandKind::kSt:
    case OperandKind::kDebug:
      return 8;
    default:
      return 1;
  }
}

void check_insn(const Insn& insn) {
  SM_CHECK(insn.op != sm::soft::Op::kInvalid && insn.op < sm::soft::Op::kCount);
  SM_CHECK(insn.length >= 1 && insn.length <= sm::soft::kMaxInsnLength);
  SM_CHECK(insn.operand_count <= insn.operand.size());
  for (std::size_t i = 0; i < insn.operand.size(); ++i) {
    const Operand& operand = insn.operand[i];
    SM_CHECK((operand.kind == OperandKind::kNone) == (i >= insn.operand_count));
    SM_CHECK(operand.reg < register_count(operand));
  }
  SM_CHECK(insn.base <= sm::soft::kRipRegister && insn.index <= sm::soft::kNoRegister);
  SM_CHECK(insn.scale <= 3 && insn.segment <= sm::soft::Segment::kGs && insn.condition < 16);
  SM_CHECK(!sm::soft::disassemble(insn).empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto mode = static_cast<CodeMode>(data[0] % 3);
  const std::span<const std::uint8_t> bytes(data + 1, std::min<std::size_t>(size - 1, 32));

  Insn whole;
  const DecodeResult result = decode_copy(bytes, mode, whole);
  if (result == DecodeResult::kOk) check_insn(whole);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    Insn part;
    const DecodeResult shorter = decode_copy(bytes.first(length), mode, part);
    if (shorter == DecodeResult::kTruncated) {
      SM_CHECK(length < sm::soft::kMaxInsnLength);
      SM_CHECK(result != DecodeResult::kOk || length < whole.length);
      continue;
    }
    SM_CHECK(shorter == result);
    if (result == DecodeResult::kOk) SM_CHECK(length >= whole.length && part == whole);
  }
  return 0;
}
