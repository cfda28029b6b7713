// SSE conversions to and from general registers and MMX registers. The host executes each of them
// itself, under the guest's MXCSR.
#include "vmm/cpu/soft/exec/mxcsr.h"
#include "vmm/cpu/soft/exec/vector_common.h"

#define SM_X87_REGISTERS "mm0", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"

namespace sm::soft {

namespace {

// The host's instructions, by the name of their Op.
namespace host {

#define SM_FROM_INTEGER(name, text)                               \
  struct name {                                                   \
    static void run(Vec& value, std::uint32_t source) {           \
      asm volatile(#text "l %1, %0" : "+x"(value) : "r"(source)); \
    }                                                             \
    static void run(Vec& value, std::uint64_t source) {           \
      asm volatile(#text "q %1, %0" : "+x"(value) : "r"(source)); \
    }                                                             \
  };

#define SM_TO_INTEGER(name, text)                                \
  struct name {                                                  \
    static void run(std::uint32_t& value, Vec source) {          \
      asm volatile(#text " %1, %0" : "=r"(value) : "x"(source)); \
    }                                                            \
    static void run(std::uint64_t& value, Vec source) {          \
      asm volatile(#text " %1, %0" : "=r"(value) : "x"(source)); \
    }                                                            \
  };

// EMMS leaves the host's x87 registers empty, as the ABI wants them.
#define SM_FROM_MMX(name, text)                                       \
  struct name {                                                       \
    static void run(Vec& value, Vec source) {                         \
      asm volatile("movdq2q %1, %%mm0\n\t" #text " %%mm0, %0\n\temms" \
                   : "+x"(value)                                      \
                   : "x"(source)                                      \
                   : SM_X87_REGISTERS);                               \
    }                                                                 \
  };

#define SM_TO_MMX(name, text)                                      \
  struct name {                                                    \
    static void run(Vec& value, Vec source) {                      \
      asm volatile(#text " %1, %%mm0\n\tmovq2dq %%mm0, %0\n\temms" \
                   : "=x"(value)                                   \
                   : "x"(source)                                   \
                   : SM_X87_REGISTERS);                            \
    }                                                              \
  };

#include "vmm/cpu/soft/exec/vector_ops.def"

}  // namespace host

template <class Host>
Next from_integer(Cpu& cpu, const Insn& insn) {
  Vec source;
  if (!sse_ready(cpu) || !load_source(cpu, insn, 1, source)) {
    return Next::kAborted;
  }
  Vec value = xmm(cpu, insn.operand[0].reg);
  const std::uint64_t integer = low_u64(source);
  const bool is_wide = insn.operand[1].size == 8;
  const auto run = [&] {
    is_wide ? Host::run(value, integer) : Host::run(value, static_cast<std::uint32_t>(integer));
  };
  if (!run_float(cpu, TinyResults::kNone, value, run)) {
    return Next::kAborted;
  }
  set_xmm(cpu, insn.operand[0].reg, value);
  return Next::kNext;
}

template <class Host>
Next to_integer(Cpu& cpu, const Insn& insn) {
  Vec source;
  if (!sse_ready(cpu) || !load_source(cpu, insn, 1, source)) {
    return Next::kAborted;
  }
  std::uint64_t wide = 0;
  const auto run = [&] {
    if (insn.operand[0].size == 8) {
      Host::run(wide, source);
    } else {
      std::uint32_t narrow = 0;
      Host::run(narrow, source);
      wide = narrow;
    }
  };
  if (!run_float(cpu, TinyResults::kNone, source, run)) {
    return Next::kAborted;
  }
  cpu.gpr[insn.operand[0].reg & 15] = wide;
  return Next::kNext;
}

// Both directions between XMM and MMX. With a source in memory CVTPI2PS and CVTPI2PD are no MMX
// instructions.
template <class Host>
Next mmx_conversion(Cpu& cpu, const Insn& insn) {
  Vec source;
  if (!sse_ready(cpu) || (has_mmx(insn) && !mmx_ready(cpu)) || !load_source(cpu, insn, 1, source)) {
    return Next::kAborted;
  }
  if (has_mmx(insn)) {
    enter_mmx(cpu);  // happens even if #XM ends the instruction
  }
  const Operand& destination = insn.operand[0];
  const bool is_to_mmx = destination.kind == OperandKind::kMmx;
  Vec value = is_to_mmx ? Vec{} : xmm(cpu, destination.reg);
  if (!run_float(cpu, TinyResults::kNone, value, [&] { Host::run(value, source); })) {
    return Next::kAborted;
  }
  is_to_mmx ? set_mmx(cpu, destination.reg, value) : set_xmm(cpu, destination.reg, value);
  return Next::kNext;
}

constexpr SemanticEntry kEntries[] = {
#define SM_FROM_INTEGER(name, text) {Op::k##name, from_integer<host::name>},
#define SM_TO_INTEGER(name, text) {Op::k##name, to_integer<host::name>},
#define SM_FROM_MMX(name, text) {Op::k##name, mmx_conversion<host::name>},
#define SM_TO_MMX(name, text) {Op::k##name, mmx_conversion<host::name>},
#include "vmm/cpu/soft/exec/vector_ops.def"
};

}  // namespace

std::span<const SemanticEntry> vector_convert_semantics() { return kEntries; }

}  // namespace sm::soft
