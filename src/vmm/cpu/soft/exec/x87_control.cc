#include "vmm/cpu/soft/exec/x87_control.h"

#include <array>
#include <cstring>

#include "vmm/cpu/soft/access.h"
#include "vmm/cpu/soft/exec/vector_common.h"
#include "vmm/cpu/soft/exec/x87_state.h"

namespace sm::soft {

namespace {

constexpr std::uint64_t kCr0Pe = 1u << 0, kCr0Mp = 1u << 1;
constexpr std::uint32_t kRegisterBytes = 10, kAllRegisters = 8 * kRegisterBytes;
constexpr std::uint32_t kLargestState = 28 + kAllRegisters;

template <class T>
void put(std::uint8_t* at, std::uint64_t value) {
  const auto narrow = static_cast<T>(value);
  std::memcpy(at, &narrow, sizeof narrow);
}
template <class T>
std::uint32_t get(const std::uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// Environments of 14 bytes (16-bit operands) and 28 bytes: seven fields, each in a word or a double
// word. In real and virtual-8086 mode the upper bits of the two pointers stand where protected mode
// has selectors; selectors are always stored as 0. Spec: SDM vol. 1, figures 8-9 to 8-12.
struct Environment {
  std::uint32_t control, status, tags, ip, ip_high, data, data_high;
};

bool has_real_format(const Cpu& cpu) {
  return (cpu.cr0 & kCr0Pe) == 0 || (cpu.other_flags & eflags::kVm) != 0;
}

Environment environment_of(const Cpu& cpu, bool is_wide) {
  const FxState& fx = cpu.fx;
  const auto ip = static_cast<std::uint32_t>(fx.instruction_pointer);
  const auto data = static_cast<std::uint32_t>(fx.data_pointer);
  // What is reserved in a double word is stored as ones.
  const std::uint32_t ones = is_wide ? 0xFFFF0000u : 0;
  Environment out{fx.control | ones, fx.status | ones, x87_full_tags(fx) | ones, ip, 0, data, ones};
  if (has_real_format(cpu)) {
    out.ip = ip & 0xFFFF;
    out.data = data & 0xFFFF;
    out.ip_high = ((ip >> 16) << 12) | (fx.opcode & 0x7FFu);
    out.data_high = (data >> 16) << 12;
  } else if (is_wide) {
    out.ip_high = static_cast<std::uint32_t>(fx.opcode & 0x7FF) << 16;
  }
  return out;
}

void write_environment(const Cpu& cpu, bool is_wide, std::uint8_t* to) {
  const Environment e = environment_of(cpu, is_wide);
  const std::uint32_t fields[] = {e.control, e.status, e.tags,     e.ip,
                                  e.ip_high, e.data,   e.data_high};
  for (const std::uint32_t field : fields) {
    is_wide ? put<std::uint32_t>(to, field) : put<std::uint16_t>(to, field);
    to += is_wide ? 4 : 2;
  }
}

// Everything but the place of the registers: TOP is in the status word.
void read_environment(Cpu& cpu, bool is_wide, const std::uint8_t* from) {
  std::array<std::uint32_t, 7> field{};
  for (std::uint32_t& value : field) {
    value = is_wide ? get<std::uint32_t>(from) : get<std::uint16_t>(from);
    from += is_wide ? 4 : 2;
  }
  FxState& fx = cpu.fx;
  fx.control = x87_control_word(static_cast<std::uint16_t>(field[0]));
  fx.status = static_cast<std::uint16_t>(field[1]);
  fx.abridged_tag = x87_abridge_tags(static_cast<std::uint16_t>(field[2]));
  fx.instruction_pointer = field[3];
  fx.data_pointer = field[5];
  if (has_real_format(cpu)) {
    fx.instruction_pointer = (field[3] & 0xFFFF) | ((field[4] >> 12) << 16);
    fx.data_pointer = (field[5] & 0xFFFF) | ((field[6] >> 12) << 16);
    fx.opcode = field[4] & 0x7FF;
  } else if (is_wide) {
    fx.opcode = (field[4] >> 16) & 0x7FF;
  } else {
    fx.opcode = 0;
  }
  x87_update_summary(fx);
}

Next fninit(Cpu& cpu, const Insn& /*insn*/) {
  if (!x87_available(cpu)) {
    return Next::kAborted;
  }
  x87_initialize(cpu.fx);
  return Next::kNext;
}

Next fnclex(Cpu& cpu, const Insn& /*insn*/) {
  if (!x87_available(cpu)) {
    return Next::kAborted;
  }
  cpu.fx.status &= 0x7F00;
  return Next::kNext;
}

Next fldcw(Cpu& cpu, const Insn& insn) {
  std::uint16_t value = 0;
  if (!x87_ready(cpu) || !load_operand(cpu, insn, value)) {
    return Next::kAborted;
  }
  cpu.fx.control = x87_control_word(value);
  x87_update_summary(cpu.fx);
  return Next::kNext;
}

Next fnstcw(Cpu& cpu, const Insn& insn) {
  return x87_available(cpu) && store_operand(cpu, insn, cpu.fx.control) ? Next::kNext
                                                                        : Next::kAborted;
}

Next fnstsw(Cpu& cpu, const Insn& insn) {
  if (!x87_available(cpu)) {
    return Next::kAborted;
  }
  if (insn.operand[0].kind == OperandKind::kMem) {
    return store_operand(cpu, insn, cpu.fx.status) ? Next::kNext : Next::kAborted;
  }
  cpu.gpr[kRax] = (cpu.gpr[kRax] & ~std::uint64_t{0xFFFF}) | cpu.fx.status;
  return Next::kNext;
}

Next fwait(Cpu& cpu, const Insn& /*insn*/) {
  constexpr std::uint64_t kMonitored = kCr0Mp | kCr0Ts;
  if ((cpu.cr0 & kMonitored) == kMonitored) {
    return raise(cpu, vector::kNoMath);
  }
  return x87_pending(cpu.fx) ? raise(cpu, vector::kMath) : Next::kNext;
}

// Linear address of the environment or state of `size` bytes.
bool state_address(Cpu& cpu, const Insn& insn, std::uint32_t size, bool is_write,
                   std::uint64_t& linear) {
  return linear_address(cpu, insn.segment, effective_offset(cpu, insn), size, is_write, linear);
}

// FNSTENV; afterwards all exceptions are masked.
Next fnstenv(Cpu& cpu, const Insn& insn) {
  const bool is_wide = insn.operand[0].size != 14;
  const std::uint32_t size = is_wide ? 28 : 14;
  std::array<std::uint8_t, kLargestState> bytes{};
  std::uint64_t linear = 0;
  if (!x87_available(cpu) || !state_address(cpu, insn, size, true, linear)) {
    return Next::kAborted;
  }
  write_environment(cpu, is_wide, bytes.data());
  if (!store_linear(cpu, linear, bytes.data(), size)) {
    return Next::kAborted;
  }
  cpu.fx.control |= x87::kExceptions;
  x87_update_summary(cpu.fx);
  return Next::kNext;
}

Next fldenv(Cpu& cpu, const Insn& insn) {
  const bool is_wide = insn.operand[0].size != 14;
  std::array<std::uint8_t, kLargestState> bytes{};
  std::uint64_t linear = 0;
  const std::uint32_t size = is_wide ? 28 : 14;
  if (!x87_ready(cpu) || !state_address(cpu, insn, size, false, linear) ||
      !load_linear(cpu, linear, bytes.data(), size)) {
    return Next::kAborted;
  }
  const unsigned status = get<std::uint16_t>(bytes.data() + (is_wide ? 4 : 2));
  x87_set_top(cpu.fx, (status >> 11) & 7u);
  read_environment(cpu, is_wide, bytes.data());
  return Next::kNext;
}

// FNSAVE: the environment, then ST(0) to ST(7) with 10 bytes each; afterwards as FNINIT.
Next fnsave(Cpu& cpu, const Insn& insn) {
  const bool is_wide = insn.operand[0].size != 94;
  const std::uint32_t header = is_wide ? 28 : 14;
  std::array<std::uint8_t, kLargestState> bytes{};
  std::uint64_t linear = 0;
  if (!x87_available(cpu) || !state_address(cpu, insn, header + kAllRegisters, true, linear)) {
    return Next::kAborted;
  }
  write_environment(cpu, is_wide, bytes.data());
  for (unsigned i = 0; i < 8; ++i) {
    std::memcpy(bytes.data() + header + i * kRegisterBytes, cpu.fx.st[i].data(), kRegisterBytes);
  }
  if (!store_linear(cpu, linear, bytes.data(), header + kAllRegisters)) {
    return Next::kAborted;
  }
  x87_initialize(cpu.fx);
  return Next::kNext;
}

Next frstor(Cpu& cpu, const Insn& insn) {
  const bool is_wide = insn.operand[0].size != 94;
  const std::uint32_t header = is_wide ? 28 : 14;
  std::array<std::uint8_t, kLargestState> bytes{};
  std::uint64_t linear = 0;
  if (!x87_ready(cpu) || !state_address(cpu, insn, header + kAllRegisters, false, linear) ||
      !load_linear(cpu, linear, bytes.data(), header + kAllRegisters)) {
    return Next::kAborted;
  }
  read_environment(cpu, is_wide, bytes.data());
  for (unsigned i = 0; i < 8; ++i) {
    std::memcpy(cpu.fx.st[i].data(), bytes.data() + header + i * kRegisterBytes, kRegisterBytes);
  }
  return Next::kNext;
}

constexpr SemanticEntry kEntries[] = {
    {Op::kFninit, fninit}, {Op::kFnclex, fnclex}, {Op::kFldcw, fldcw},     {Op::kFnstcw, fnstcw},
    {Op::kFnstsw, fnstsw}, {Op::kFwait, fwait},   {Op::kFnstenv, fnstenv}, {Op::kFldenv, fldenv},
    {Op::kFnsave, fnsave}, {Op::kFrstor, frstor},
};

}  // namespace

std::span<const SemanticEntry> x87_control_semantics() { return kEntries; }

}  // namespace sm::soft
