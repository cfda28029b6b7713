#include "vmm/cpu/soft/exec/x87_fast.h"

#include <cstdint>
#include <utility>

#include "vmm/cpu/soft/access.h"
#include "vmm/cpu/soft/exec/x87_general.h"
#include "vmm/cpu/soft/exec/x87_host.h"
#include "vmm/cpu/soft/exec/x87_host_ops.h"
#include "vmm/cpu/soft/exec/x87_host_scope.h"
#include "vmm/cpu/soft/exec/x87_state.h"

namespace sm::soft {

namespace {

namespace host = x87_host;
using host::Register;
using host::Status;

constexpr std::uint16_t kConditions = x87::kC0 | x87::kC1 | x87::kC2 | x87::kC3;

// Whether the quick way is open: nothing can be pending then.
bool all_masked(const FxState& fx) { return (fx.control & x87::kExceptions) == x87::kExceptions; }

// The memory operand, or null.
const Operand* memory_operand(const Insn& insn) {
  const int index = x87_memory_operand(insn);
  return index < 0 ? nullptr : &insn.operand[static_cast<unsigned>(index)];
}

// Takes over exception flags and, of the condition codes, `codes`.
void merge_status(FxState& fx, Status host, std::uint16_t codes) {
  constexpr unsigned kFlags = x87::kExceptions | x87::kStackFault;
  const unsigned kept = fx.status & ~static_cast<unsigned>(codes);
  fx.status = static_cast<std::uint16_t>(kept | (host & (kFlags | codes)));
}
void clear_c1(FxState& fx) { merge_status(fx, 0, x87::kC1); }

Next done(Cpu& cpu) {
  x87_record_instruction(cpu);
  return Next::kNext;
}

// The bytes of the memory operand.
bool load_number(Cpu& cpu, const Insn& insn, std::uint32_t size, void* value) {
  std::uint64_t linear = 0;
  return linear_address(cpu, insn.segment, effective_offset(cpu, insn), size, false, linear) &&
         load_linear(cpu, linear, value, size);
}
bool store_number(Cpu& cpu, const Insn& insn, std::uint32_t size, const void* value) {
  std::uint64_t linear = 0;
  return linear_address(cpu, insn.segment, effective_offset(cpu, insn), size, true, linear) &&
         store_linear(cpu, linear, value, size);
}

// FADD and its kin with registers; the popping forms.
template <class Host, bool kPops>
Next arithmetic(Cpu& cpu, const Insn& insn) {
  FxState& fx = cpu.fx;
  const unsigned to = insn.operand[0].reg & 7u;
  const unsigned from = insn.operand[1].reg & 7u;
  if (!all_masked(fx) || !x87_in_use(fx, to) || !x87_in_use(fx, from)) {
    return x87_general(cpu, insn);
  }
  if (!x87_ready(cpu)) {
    return Next::kAborted;
  }
  {
    const X87HostScope scope(fx);
    merge_status(fx, Host::registers(fx.st[to], fx.st[from]), x87::kC1);
  }
  if (kPops) {
    x87_pop(fx);
  }
  return done(cpu);
}

// FADD and its kin with real (kIsInteger: integer) numbers in memory, or registers.
template <class Host, bool kIsInteger>
Next arithmetic_memory(Cpu& cpu, const Insn& insn) {
  FxState& fx = cpu.fx;
  const Operand* memory = memory_operand(insn);
  if (memory == nullptr) {
    return arithmetic<Host, false>(cpu, insn);
  }
  if (!all_masked(fx) || !x87_in_use(fx, 0)) {
    return x87_general(cpu, insn);
  }
  std::uint64_t source = 0;
  if (!x87_ready(cpu) || !load_number(cpu, insn, memory->size, &source)) {
    return Next::kAborted;
  }
  const X87HostScope scope(fx);
  Status status = 0;
  if (kIsInteger) {
    status = memory->size == 2 ? Host::i16(fx.st[0], source) : Host::i32(fx.st[0], source);
  } else {
    status = memory->size == 4 ? Host::m32(fx.st[0], source) : Host::m64(fx.st[0], source);
  }
  merge_status(fx, status, x87::kC1);
  return done(cpu);
}

// FCOM, FUCOM and their popping forms.
template <bool kIsUnordered, unsigned kPops>
Next compare(Cpu& cpu, const Insn& insn) {
  FxState& fx = cpu.fx;
  const Operand* memory = memory_operand(insn);
  // FCOMPP and FUCOMPP name no operand: ST(1).
  const unsigned other = insn.operand_count == 0 ? 1 : insn.operand[1].reg & 7u;
  if (!all_masked(fx) || !x87_in_use(fx, 0) || (memory == nullptr && !x87_in_use(fx, other))) {
    return x87_general(cpu, insn);
  }
  std::uint64_t number = 0;
  if (!x87_ready(cpu) || (memory != nullptr && !load_number(cpu, insn, memory->size, &number))) {
    return Next::kAborted;
  }
  {
    const X87HostScope scope(fx);
    Status status = 0;
    if (memory != nullptr) {
      status = memory->size == 4 ? host::fcom32(fx.st[0], number) : host::fcom64(fx.st[0], number);
    } else {
      status =
          kIsUnordered ? host::fucom(fx.st[0], fx.st[other]) : host::fcom(fx.st[0], fx.st[other]);
    }
    merge_status(fx, status, kConditions);
  }
  for (unsigned i = 0; i < kPops; ++i) {
    x87_pop(fx);
  }
  return done(cpu);
}

// FCOMI, FUCOMI and their popping forms.
template <bool kIsUnordered, bool kPops>
Next compare_flags(Cpu& cpu, const Insn& insn) {
  FxState& fx = cpu.fx;
  const unsigned other = insn.operand[1].reg & 7u;
  if (!all_masked(fx) || !x87_in_use(fx, 0) || !x87_in_use(fx, other)) {
    return x87_general(cpu, insn);
  }
  if (!x87_ready(cpu)) {
    return Next::kAborted;
  }
  {
    const X87HostScope scope(fx);
    const Status status = kIsUnordered ? host::fucomi(fx.st[0], fx.st[other], cpu.status)
                                       : host::fcomi(fx.st[0], fx.st[other], cpu.status);
    merge_status(fx, status, 0);  // the condition codes stay
  }
  if (kPops) {
    x87_pop(fx);
  }
  return done(cpu);
}

// Whether a value can be pushed: the register below ST(0), which is ST(7), is free.
bool can_push(const FxState& fx) { return all_masked(fx) && !x87_in_use(fx, 7); }

void push(FxState& fx, const Register& value) {
  x87_push(fx);
  fx.st[0] = value;
}

// FLD of a register.
Next load_register(Cpu& cpu, const Insn& insn) {
  FxState& fx = cpu.fx;
  const unsigned from = insn.operand[0].reg & 7u;
  if (!can_push(fx) || !x87_in_use(fx, from)) {
    return x87_general(cpu, insn);
  }
  if (!x87_ready(cpu)) {
    return Next::kAborted;
  }
  push(fx, Register(fx.st[from]));
  clear_c1(fx);
  return done(cpu);
}

Status convert(Register& value, std::uint64_t number, std::uint32_t size, bool is_integer) {
  switch (size) {
    case 2:
      return host::fild16(value, number);
    case 4:
      return is_integer ? host::fild32(value, number) : host::fld32(value, number);
    default:
      return is_integer ? host::fild64(value, number) : host::fld64(value, number);
  }
}

// FLD and FILD of memory.
template <bool kIsInteger>
Next load(Cpu& cpu, const Insn& insn) {
  FxState& fx = cpu.fx;
  const Operand& operand = insn.operand[0];
  if (operand.kind != OperandKind::kMem) {
    return load_register(cpu, insn);
  }
  if (!can_push(fx)) {
    return x87_general(cpu, insn);
  }
  Register value{};
  std::uint64_t number = 0;
  const bool is_extended = operand.size == 10;
  void* const to = is_extended ? static_cast<void*>(value.data()) : &number;
  if (!x87_ready(cpu) || !load_number(cpu, insn, operand.size, to)) {
    return Next::kAborted;
  }
  if (is_extended) {
    clear_c1(fx);
  } else {
    const X87HostScope scope(fx);
    merge_status(fx, convert(value, number, operand.size, kIsInteger), x87::kC1);
  }
  push(fx, value);
  return done(cpu);
}

// FST and FSTP to a register.
template <bool kPops>
Next store_register(Cpu& cpu, const Insn& insn) {
  FxState& fx = cpu.fx;
  const unsigned to = insn.operand[0].reg & 7u;
  if (!all_masked(fx) || !x87_in_use(fx, 0)) {
    return x87_general(cpu, insn);
  }
  if (!x87_ready(cpu)) {
    return Next::kAborted;
  }
  fx.st[to] = fx.st[0];
  x87_set_in_use(fx, to, true);
  clear_c1(fx);
  if (kPops) {
    x87_pop(fx);
  }
  return done(cpu);
}

enum class Number : std::uint8_t { kReal, kInteger, kTruncated };

Status convert(const Register& value, std::uint64_t& number, std::uint32_t size, Number kind) {
  switch (kind) {
    case Number::kReal:
      return size == 4 ? host::fstp32(value, number) : host::fstp64(value, number);
    case Number::kInteger:
      return size == 2   ? host::fistp16(value, number)
             : size == 4 ? host::fistp32(value, number)
                         : host::fistp64(value, number);
    default:
      return size == 2   ? host::fisttp16(value, number)
             : size == 4 ? host::fisttp32(value, number)
                         : host::fisttp64(value, number);
  }
}

// FST, FIST, FISTTP and their popping forms.
template <Number kKind, bool kPops>
Next store(Cpu& cpu, const Insn& insn) {
  FxState& fx = cpu.fx;
  const Operand& operand = insn.operand[0];
  if (operand.kind != OperandKind::kMem) {
    return store_register<kPops>(cpu, insn);
  }
  if (!all_masked(fx) || !x87_in_use(fx, 0)) {
    return x87_general(cpu, insn);
  }
  if (!x87_ready(cpu)) {
    return Next::kAborted;
  }
  std::uint64_t number = 0;
  Status status = 0;
  const bool is_extended = operand.size == 10;
  if (!is_extended) {
    const X87HostScope scope(fx);
    status = convert(fx.st[0], number, operand.size, kKind);
  }
  const void* from = is_extended ? static_cast<const void*>(fx.st[0].data()) : &number;
  if (!store_number(cpu, insn, operand.size, from)) {
    return Next::kAborted;
  }
  merge_status(fx, status, x87::kC1);
  if (kPops) {
    x87_pop(fx);
  }
  return done(cpu);
}

Next fxch(Cpu& cpu, const Insn& insn) {
  FxState& fx = cpu.fx;
  const unsigned other = insn.operand[0].reg & 7u;
  if (!all_masked(fx) || !x87_in_use(fx, 0) || !x87_in_use(fx, other)) {
    return x87_general(cpu, insn);
  }
  if (!x87_ready(cpu)) {
    return Next::kAborted;
  }
  const Register first = fx.st[0];
  fx.st[0] = fx.st[other];
  fx.st[other] = first;
  clear_c1(fx);
  return done(cpu);
}

// FCHS, FABS: the sign bit alone.
template <bool kIsAbsolute>
Next change_sign(Cpu& cpu, const Insn& insn) {
  FxState& fx = cpu.fx;
  if (!all_masked(fx) || !x87_in_use(fx, 0)) {
    return x87_general(cpu, insn);
  }
  if (!x87_ready(cpu)) {
    return Next::kAborted;
  }
  const unsigned byte = fx.st[0][9];
  fx.st[0][9] = static_cast<std::uint8_t>(kIsAbsolute ? byte & 0x7F : byte ^ 0x80);
  clear_c1(fx);
  return done(cpu);
}

template <class Host>
Next unary(Cpu& cpu, const Insn& insn) {
  FxState& fx = cpu.fx;
  if (!all_masked(fx) || !x87_in_use(fx, 0)) {
    return x87_general(cpu, insn);
  }
  if (!x87_ready(cpu)) {
    return Next::kAborted;
  }
  const X87HostScope scope(fx);
  merge_status(fx, Host::run(fx.st[0]), x87::kC1);
  return done(cpu);
}

template <class Host>
Next constant(Cpu& cpu, const Insn& insn) {
  FxState& fx = cpu.fx;
  if (!can_push(fx)) {
    return x87_general(cpu, insn);
  }
  if (!x87_ready(cpu)) {
    return Next::kAborted;
  }
  Register value{};
  {
    const X87HostScope scope(fx);  // its rounding decides the last bit
    Host::run(value);
  }
  push(fx, value);
  clear_c1(fx);
  return done(cpu);
}

constexpr SemanticEntry kEntries[] = {
    {Op::kFadd, arithmetic_memory<host::Add, false>},
    {Op::kFmul, arithmetic_memory<host::Mul, false>},
    {Op::kFsub, arithmetic_memory<host::Sub, false>},
    {Op::kFsubr, arithmetic_memory<host::Subr, false>},
    {Op::kFdiv, arithmetic_memory<host::Div, false>},
    {Op::kFdivr, arithmetic_memory<host::Divr, false>},
    {Op::kFiadd, arithmetic_memory<host::Add, true>},
    {Op::kFimul, arithmetic_memory<host::Mul, true>},
    {Op::kFisub, arithmetic_memory<host::Sub, true>},
    {Op::kFisubr, arithmetic_memory<host::Subr, true>},
    {Op::kFidiv, arithmetic_memory<host::Div, true>},
    {Op::kFidivr, arithmetic_memory<host::Divr, true>},
    {Op::kFaddp, arithmetic<host::Add, true>},
    {Op::kFmulp, arithmetic<host::Mul, true>},
    {Op::kFsubp, arithmetic<host::Sub, true>},
    {Op::kFsubrp, arithmetic<host::Subr, true>},
    {Op::kFdivp, arithmetic<host::Div, true>},
    {Op::kFdivrp, arithmetic<host::Divr, true>},
    {Op::kFcom, compare<false, 0>},
    {Op::kFcomp, compare<false, 1>},
    {Op::kFcompp, compare<false, 2>},
    {Op::kFucom, compare<true, 0>},
    {Op::kFucomp, compare<true, 1>},
    {Op::kFucompp, compare<true, 2>},
    {Op::kFcomi, compare_flags<false, false>},
    {Op::kFcomip, compare_flags<false, true>},
    {Op::kFucomi, compare_flags<true, false>},
    {Op::kFucomip, compare_flags<true, true>},
    {Op::kFld, load<false>},
    {Op::kFild, load<true>},
    {Op::kFst, store<Number::kReal, false>},
    {Op::kFstp, store<Number::kReal, true>},
    {Op::kFist, store<Number::kInteger, false>},
    {Op::kFistp, store<Number::kInteger, true>},
    {Op::kFisttp, store<Number::kTruncated, true>},
    {Op::kFxch, fxch},
    {Op::kFchs, change_sign<false>},
    {Op::kFabs, change_sign<true>},
    {Op::kFsqrt, unary<host::Sqrt>},
    {Op::kFrndint, unary<host::Rndint>},
    {Op::kFld1, constant<host::One>},
    {Op::kFldz, constant<host::Zero>},
    {Op::kFldl2t, constant<host::L2t>},
    {Op::kFldl2e, constant<host::L2e>},
    {Op::kFldpi, constant<host::Pi>},
    {Op::kFldlg2, constant<host::Lg2>},
    {Op::kFldln2, constant<host::Ln2>},
};

}  // namespace

std::span<const SemanticEntry> x87_fast_semantics() { return kEntries; }

}  // namespace sm::soft
