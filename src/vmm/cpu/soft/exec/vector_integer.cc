// Packed integer operations of MMX, SSE2, SSSE3, SSE4.1/4.2, AES and SHA whose result depends on
// the two operands alone, and the floating-point ones that MXCSR has no part in. The host executes
// each of them itself.
#include <iterator>

#include "vmm/cpu/soft/exec/vector_common.h"

// Operations with an MMX and an XMM form.
#define SM_BOTH_FORMS(X)                                                                           \
  X(Paddb, "paddb")                                                                                \
  X(Paddw, "paddw") X(Paddd, "paddd") X(Paddq, "paddq") X(Paddsb, "paddsb") X(Paddsw, "paddsw") X( \
      Paddusb, "paddusb") X(Paddusw, "paddusw") X(Psubb, "psubb") X(Psubw, "psubw")                \
      X(Psubd, "psubd") X(Psubq, "psubq") X(Psubsb, "psubsb") X(Psubsw, "psubsw") X(               \
          Psubusb, "psubusb") X(Psubusw, "psubusw") X(Pmullw, "pmullw") X(Pmulhw, "pmulhw")        \
          X(Pmulhuw, "pmulhuw") X(Pmulhrsw, "pmulhrsw") X(Pmuludq, "pmuludq") X(                   \
              Pmaddwd, "pmaddwd") X(Pmaddubsw, "pmaddubsw") X(Psadbw, "psadbw") X(Pavgb, "pavgb")  \
              X(Pavgw, "pavgw") X(Pminsw, "pminsw") X(Pminub, "pminub") X(Pmaxsw, "pmaxsw") X(     \
                  Pmaxub, "pmaxub") X(Pabsb, "pabsb") X(Pabsw, "pabsw")                            \
                  X(Pabsd, "pabsd") X(Psignb, "psignb") X(Psignw, "psignw") X(Psignd, "psignd") X( \
                      Phaddw, "phaddw") X(Phaddd, "phaddd")                                        \
                      X(Phaddsw, "phaddsw") X(Phsubw, "phsubw") X(Phsubd, "phsubd")                \
                          X(Phsubsw, "phsubsw") X(Pand, "pand") X(Pandn, "pandn")                  \
                              X(Por, "por") X(Pxor, "pxor") X(Pcmpeqb, "pcmpeqb") X(               \
                                  Pcmpeqw, "pcmpeqw") X(Pcmpeqd, "pcmpeqd") X(Pcmpgtb, "pcmpgtb")  \
                                  X(Pcmpgtw, "pcmpgtw") X(Pcmpgtd, "pcmpgtd")                      \
                                      X(Psllw, "psllw") X(Pslld, "pslld")                          \
                                          X(Psllq, "psllq") X(Psrlw, "psrlw")                      \
                                              X(Psrld, "psrld") X(Psrlq, "psrlq")                  \
                                                  X(Psraw, "psraw") X(Psrad, "psrad")              \
                                                      X(Punpcklbw, "punpcklbw")                    \
                                                          X(Punpcklwd, "punpcklwd")                \
                                                              X(Punpckldq, "punpckldq") X(         \
                                                                  Punpckhbw, "punpckhbw")          \
                                                                  X(Punpckhwd, "punpckhwd") X(     \
                                                                      Punpckhdq, "punpckhdq")      \
                                                                      X(Packsswb, "packsswb") X(   \
                                                                          Packssdw, "packssdw")    \
                                                                          X(Packuswb, "packuswb")  \
                                                                              X(Pshufb, "pshufb")

// Operations on XMM registers only. The source may be shorter than 16 bytes.
#define SM_XMM_FORM(X)                                                                            \
  X(Pmulld, "pmulld")                                                                             \
  X(Pmuldq, "pmuldq") X(Phminposuw, "phminposuw") X(Pminsb, "pminsb") X(Pminsd, "pminsd")         \
      X(Pminuw, "pminuw") X(Pminud, "pminud") X(Pmaxsb, "pmaxsb") X(Pmaxsd, "pmaxsd")             \
          X(Pmaxuw, "pmaxuw") X(Pmaxud, "pmaxud") X(Pcmpeqq, "pcmpeqq") X(Pcmpgtq, "pcmpgtq") X(  \
              Packusdw, "packusdw") X(Punpcklqdq, "punpcklqdq") X(Punpckhqdq, "punpckhqdq")       \
              X(Pmovsxbw, "pmovsxbw") X(Pmovsxbd, "pmovsxbd") X(Pmovsxbq, "pmovsxbq") X(          \
                  Pmovsxwd, "pmovsxwd") X(Pmovsxwq, "pmovsxwq") X(Pmovsxdq, "pmovsxdq")           \
                  X(Pmovzxbw, "pmovzxbw") X(Pmovzxbd, "pmovzxbd") X(Pmovzxbq, "pmovzxbq") X(      \
                      Pmovzxwd, "pmovzxwd") X(Pmovzxwq, "pmovzxwq") X(Pmovzxdq, "pmovzxdq")       \
                      X(Andps, "andps") X(Andpd, "andpd") X(Andnps, "andnps") X(Andnpd, "andnpd") \
                          X(Orps, "orps") X(Orpd, "orpd") X(Xorps, "xorps") X(Xorpd, "xorpd")     \
                              X(Unpcklps, "unpcklps") X(Unpcklpd, "unpcklpd")                     \
                                  X(Unpckhps, "unpckhps") X(Unpckhpd, "unpckhpd") X(              \
                                      Movsldup, "movsldup") X(Movshdup, "movshdup")               \
                                      X(Movddup, "movddup") X(Rcpps, "rcpps") X(Rcpss, "rcpss")   \
                                          X(Rsqrtps, "rsqrtps") X(Rsqrtss, "rsqrtss")             \
                                              X(Aesenc, "aesenc") X(Aesenclast, "aesenclast") X(  \
                                                  Aesdec, "aesdec") X(Aesdeclast, "aesdeclast")   \
                                                  X(Aesimc, "aesimc") X(Sha1nexte, "sha1nexte")   \
                                                      X(Sha1msg1, "sha1msg1")                     \
                                                          X(Sha1msg2, "sha1msg2")                 \
                                                              X(Sha256msg1, "sha256msg1")         \
                                                                  X(Sha256msg2, "sha256msg2")

// Operations that take XMM0 as a third operand.
#define SM_XMM0_FORM(X)   \
  X(Pblendvb, "pblendvb") \
  X(Blendvps, "blendvps") X(Blendvpd, "blendvpd") X(Sha256rnds2, "sha256rnds2")

namespace sm::soft {

namespace {

#define SM_DEFINE_XMM(text) \
  static void on_xmm(Vec& value, Vec source) { asm(text " %1, %0" : "+x"(value) : "x"(source)); }
// EMMS leaves the host's x87 registers empty, as the ABI wants them.
#define SM_DEFINE_MMX(text)                                                                   \
  static void on_mmx(Vec& value, Vec source) {                                                \
    asm("movdq2q %0, %%mm0\n\tmovdq2q %1, %%mm1\n\t" text                                     \
        " %%mm1, %%mm0\n\tmovq2dq %%mm0, %0\n\temms"                                          \
        : "+x"(value)                                                                         \
        : "x"(source)                                                                         \
        : "mm0", "mm1", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"); \
  }
#define SM_DEFINE_BOTH(name, text) \
  struct name {                    \
    SM_DEFINE_XMM(text)            \
    SM_DEFINE_MMX(text)            \
  };
#define SM_DEFINE_XMM_ONLY(name, text) \
  struct name {                        \
    SM_DEFINE_XMM(text)                \
  };
#define SM_DEFINE_XMM0(name, text)                         \
  struct name {                                            \
    static void on_xmm(Vec& value, Vec source, Vec xmm0) { \
      asm("movdqa %2, %%xmm0\n\t" text " %%xmm0, %1, %0"   \
          : "+x"(value)                                    \
          : "x"(source), "x"(xmm0)                         \
          : "xmm0");                                       \
    }                                                      \
  };

// The host's instructions, by the name of their Op.
namespace host {
SM_BOTH_FORMS(SM_DEFINE_BOTH)
SM_XMM_FORM(SM_DEFINE_XMM_ONLY)
SM_XMM0_FORM(SM_DEFINE_XMM0)
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

#define SM_ENTRY_BOTH(name, text) {Op::k##name, any_operation<host::name>},
#define SM_ENTRY_XMM(name, text) {Op::k##name, xmm_operation<host::name>},
#define SM_ENTRY_XMM0(name, text) {Op::k##name, xmm0_operation<host::name>},
constexpr SemanticEntry kEntries[] = {
    // clang-format off
    SM_BOTH_FORMS(SM_ENTRY_BOTH)
    SM_XMM_FORM(SM_ENTRY_XMM)
    SM_XMM0_FORM(SM_ENTRY_XMM0)
    {Op::kPtest, ptest},
    // clang-format on
};

}  // namespace

std::span<const SemanticEntry> vector_integer_semantics() { return kEntries; }

}  // namespace sm::soft
