// Packed integer operations of MMX, SSE2, SSSE3, SSE4.1/4.2, AES and SHA whose result depends on
// the two operands alone, and the floating-point ones that MXCSR has no part in. The host executes
// each of them itself.
#include "vmm/cpu/soft/exec/vector_common.h"

namespace sm::soft {

namespace {

// The host's instructions, by the name of their Op.
namespace host {

#define SM_RUN_ON_XMM(text) \
  static void on_xmm(Vec& value, Vec source) { asm(#text " %1, %0" : "+x"(value) : "x"(source)); }
#define SM_XMM(name, text) \
  struct name {            \
    SM_RUN_ON_XMM(text)    \
  };

// EMMS leaves the host's x87 registers empty, as the ABI wants them.
#define SM_PACKED(name, text)                                                                   \
  struct name {                                                                                 \
    SM_RUN_ON_XMM(text)                                                                         \
    static void on_mmx(Vec& value, Vec source) {                                                \
      asm("movdq2q %0, %%mm0\n\tmovdq2q %1, %%mm1\n\t" #text                                    \
          " %%mm1, %%mm0\n\tmovq2dq %%mm0, %0\n\temms"                                          \
          : "+x"(value)                                                                         \
          : "x"(source)                                                                         \
          : "mm0", "mm1", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"); \
    }                                                                                           \
  };

#define SM_XMM0(name, text)                                \
  struct name {                                            \
    static void on_xmm(Vec& value, Vec source, Vec xmm0) { \
      asm("movdqa %2, %%xmm0\n\t" #text " %%xmm0, %1, %0"  \
          : "+x"(value)                                    \
          : "x"(source), "x"(xmm0)                         \
          : "xmm0");                                       \
    }                                                      \
  };

#include "vmm/cpu/soft/exec/vector_ops.def"
#undef SM_RUN_ON_XMM

}  // namespace host

// operand 0 = operand 0 OP operand 1.
template <class Host>
Next xmm_operation(Cpu& cpu, const Insn& insn) {
  Vec source;
  if (!sse_ready(cpu) || !load_source(cpu, insn, 1, source)) {
    return Next::kAborted;
  }
  Vec value = xmm(cpu, insn.operand[0].reg);
  Host::on_xmm(value, source);
  set_xmm(cpu, insn.operand[0].reg, value);
  return Next::kNext;
}

template <class Host>
Next any_operation(Cpu& cpu, const Insn& insn) {
  if (insn.operand[0].kind == OperandKind::kXmm) [[likely]] {
    return xmm_operation<Host>(cpu, insn);
  }
  Vec source;
  if (!mmx_ready(cpu) || !load_source(cpu, insn, 1, source)) {
    return Next::kAborted;
  }
  enter_mmx(cpu);
  Vec value = mmx(cpu, insn.operand[0].reg);
  Host::on_mmx(value, source);
  set_mmx(cpu, insn.operand[0].reg, value);
  return Next::kNext;
}

template <class Host>
Next xmm0_operation(Cpu& cpu, const Insn& insn) {
  Vec source;
  if (!sse_ready(cpu) || !load_source(cpu, insn, 1, source)) {
    return Next::kAborted;
  }
  Vec value = xmm(cpu, insn.operand[0].reg);
  Host::on_xmm(value, source, xmm(cpu, 0));
  set_xmm(cpu, insn.operand[0].reg, value);
  return Next::kNext;
}

Next ptest(Cpu& cpu, const Insn& insn) {
  Vec source;
  if (!sse_ready(cpu) || !load_source(cpu, insn, 1, source)) {
    return Next::kAborted;
  }
  std::uint32_t flags = 0;  // PTEST clears OF
  asm("ptest %2, %1\n\tlahf"
      : "+a"(flags)
      : "x"(xmm(cpu, insn.operand[0].reg)), "x"(source)
      : "cc");
  cpu.status.ax = static_cast<std::uint16_t>(flags);
  return Next::kNext;
}

constexpr SemanticEntry kEntries[] = {
#define SM_PACKED(name, text) {Op::k##name, any_operation<host::name>},
#define SM_XMM(name, text) {Op::k##name, xmm_operation<host::name>},
#define SM_XMM0(name, text) {Op::k##name, xmm0_operation<host::name>},
#include "vmm/cpu/soft/exec/vector_ops.def"
    {Op::kPtest, ptest},
};

}  // namespace

std::span<const SemanticEntry> vector_integer_semantics() { return kEntries; }

}  // namespace sm::soft
