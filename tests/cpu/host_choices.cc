#include "tests/cpu/host_choices.h"

#include <cpuid.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/event/descriptor.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::cpu_fuzz {

using soft::Op;
using soft::OperandKind;

namespace {

bool is_amd() {
  static const bool answer = [] {
    std::uint32_t highest = 0;
    std::array<std::uint32_t, 3> name{};  // in the order of EBX, EDX, ECX
    if (__get_cpuid(0, &highest, &name[0], &name[2], &name[1]) == 0) return false;
    const std::string_view text(reinterpret_cast<const char*>(name.data()), sizeof(name));
    return text == "AuthenticAMD" || text == "HygonGenuine";
  }();
  return answer;
}

bool is_near_branch(Op op) {
  switch (op) {
    case Op::kJcc:
    case Op::kJmpNear:
    case Op::kCallNear:
    case Op::kRetNear:
    case Op::kJcxz:
    case Op::kLoop:
    case Op::kLoope:
    case Op::kLoopne:
      return true;
    default:
      return false;
  }
}

bool is_string(Op op) {
  switch (op) {
    case Op::kMovs:
    case Op::kStos:
    case Op::kLods:
    case Op::kScas:
    case Op::kCmps:
      return true;
    default:
      return false;
  }
}

bool is_sha(Op op) {
  switch (op) {
    case Op::kSha1rnds4:
    case Op::kSha1nexte:
    case Op::kSha1msg1:
    case Op::kSha1msg2:
    case Op::kSha256rnds2:
    case Op::kSha256msg1:
    case Op::kSha256msg2:
      return true;
    default:
      return false;
  }
}

bool is_x87_store(const soft::Insn& insn) {
  switch (insn.op) {
    case Op::kFst:
    case Op::kFstp:
    case Op::kFist:
    case Op::kFistp:
    case Op::kFisttp:
    case Op::kFbstp:
      return insn.operand[0].kind == OperandKind::kMem;
    default:
      return false;
  }
}

bool has_memory(const soft::Insn& insn) {
  return std::any_of(insn.operand.begin(), insn.operand.end(), [](const soft::Operand& operand) {
    return operand.kind == OperandKind::kMem;
  });
}

// Of the memory operand, before a segment's base is added.
std::uint64_t offset_of(const soft::Insn& insn, const MachineState& state) {
  const auto value = [&](std::uint8_t reg) {
    if (reg == soft::kRipRegister) return state.rip + insn.length;
    return reg < state.gpr.size() ? state.gpr[reg] : 0;
  };
  return value(insn.base) + (value(insn.index) << insn.scale) +
         static_cast<std::uint64_t>(insn.displacement);
}

// An offset that is not canonical is refused there even where the segment's base makes it so.
bool refuses_offset(const soft::Insn& insn, const MachineState& before, const Outcome& native) {
  return native.faulted && native.fault.vector == soft::vector::kProtection && has_memory(insn) &&
         insn.segment >= soft::Segment::kFs && insn.address_size == 8 &&
         !soft::is_canonical_address(offset_of(insn, before));
}

// What stands before the opcode.
struct Prefixes {
  bool operand_size = false, repeat = false;
  std::uint8_t rex = 0;
  std::uint8_t opcode = 0;  // behind 0F, if that is there
};
Prefixes prefixes_of(const Text& text) {
  Prefixes found;
  for (std::size_t i = 0; i + 1 < text.bytes.size(); ++i) {
    const std::uint8_t byte = text.bytes[i];
    if ((byte & 0xF0) == 0x40) {
      found.rex = byte;
      continue;
    }
    constexpr std::array<std::uint8_t, 8> kOthers{0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x67, 0xF0};
    const bool is_other = std::find(kOthers.begin(), kOthers.end(), byte) != kOthers.end();
    if (byte != 0x66 && byte != 0xF2 && byte != 0xF3 && !is_other) {
      found.opcode = byte == 0x0F ? text.bytes[i + 1] : byte;
      break;
    }
    found.operand_size = found.operand_size || byte == 0x66;
    found.repeat = found.repeat || byte == 0xF2 || byte == 0xF3;
    found.rex = 0;
  }
  return found;
}

}  // namespace

bool host_reads_otherwise(const soft::Insn& insn, const Text& text) {
  if (!is_amd()) return false;
  const Prefixes prefixes = prefixes_of(text);
  // The operand size of branches counts there, and LOOP knows prefixes.
  if (is_near_branch(insn.op)) return prefixes.operand_size || prefixes.repeat;
  switch (insn.op) {
    case Op::kPause:  // with REX.B an exchange
      return (prefixes.rex & 1) != 0;
    case Op::kNop:  // PREFETCHW of a register is undefined
    case Op::kPrefetch:
      return prefixes.opcode == 0x0D;
    case Op::kMovsxd:  // reads four bytes for two
      return insn.operand_size == 2;
    default:
      return is_sha(insn.op) && has_memory(insn);  // which need not be aligned
  }
}

bool host_ends_otherwise(const soft::Insn& insn, const MachineState& before,
                         const Outcome& native) {
  if (!is_amd()) return false;
  constexpr std::uint16_t kAllMasked = 0x3F;
  constexpr std::uint32_t kMisaligned = 1u << 17;  // a bit of MXCSR
  if (insn.op == Op::kLdmxcsr || insn.op == Op::kFxrstor) {
    return (native.after.fx.mxcsr & kMisaligned) != 0;
  }
  if (is_string(insn.op)) {
    const bool is_empty = insn.repeat != soft::Repeat::kNone &&
                          static_cast<std::uint32_t>(before.gpr[soft::kRcx]) == 0;
    if (insn.address_size == 4 && (native.faulted || is_empty)) return true;
    return native.faulted && (insn.op == Op::kScas || insn.op == Op::kCmps);
  }
  if (refuses_offset(insn, before, native)) return true;
  return native.faulted && is_x87_store(insn) && (before.fx.control & kAllMasked) != kAllMasked;
}

bool host_stores_otherwise(const soft::Insn& insn, const Outcome& native) {
  if (!is_amd()) return false;
  return insn.op == Op::kFxsave || (insn.op == Op::kCallNear && native.faulted);
}

}  // namespace sm::cpu_fuzz
