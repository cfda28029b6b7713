// SSE floating-point operations between XMM registers and memory that MXCSR governs, and the
// comparisons that set EFLAGS. The host executes each of them itself.
#include "vmm/cpu/soft/exec/mxcsr.h"
#include "vmm/cpu/soft/exec/vector_common.h"

// Operation, instruction, which of its results can be tiny.
#define SM_FLOAT_OPERATIONS(X)                                                                     \
  X(Addps, "addps", kSingles)                                                                      \
  X(Addpd, "addpd", kDoubles) X(Addss, "addss", kSingle) X(Addsd, "addsd", kDouble) X(             \
      Subps, "subps", kSingles) X(Subpd, "subpd", kDoubles) X(Subss, "subss", kSingle)             \
      X(Subsd, "subsd", kDouble) X(Mulps, "mulps", kSingles) X(Mulpd, "mulpd", kDoubles) X(        \
          Mulss, "mulss", kSingle) X(Mulsd, "mulsd", kDouble) X(Divps, "divps", kSingles)          \
          X(Divpd, "divpd", kDoubles) X(Divss, "divss", kSingle) X(Divsd, "divsd", kDouble) X(     \
              Minps, "minps", kNone) X(Minpd, "minpd", kNone) X(Minss, "minss", kNone)             \
              X(Minsd, "minsd", kNone) X(Maxps, "maxps", kNone) X(Maxpd, "maxpd", kNone) X(        \
                  Maxss, "maxss", kNone) X(Maxsd, "maxsd", kNone) X(Sqrtps, "sqrtps", kNone)       \
                  X(Sqrtpd, "sqrtpd", kNone) X(Sqrtss, "sqrtss", kNone) X(Sqrtsd, "sqrtsd", kNone) \
                      X(Addsubps, "addsubps", kSingles) X(Addsubpd, "addsubpd", kDoubles)          \
                          X(Haddps, "haddps", kSingles) X(Haddpd, "haddpd", kDoubles) X(           \
                              Hsubps, "hsubps", kSingles) X(Hsubpd, "hsubpd", kDoubles)            \
                              X(Cvtps2pd, "cvtps2pd", kNone) X(Cvtpd2ps, "cvtpd2ps", kTwoSingles)  \
                                  X(Cvtss2sd, "cvtss2sd", kNone) X(Cvtsd2ss, "cvtsd2ss", kSingle)  \
                                      X(Cvtdq2ps, "cvtdq2ps", kNone)                               \
                                          X(Cvtdq2pd, "cvtdq2pd", kNone)                           \
                                              X(Cvtps2dq, "cvtps2dq", kNone)                       \
                                                  X(Cvttps2dq, "cvttps2dq", kNone)                 \
                                                      X(Cvtpd2dq, "cvtpd2dq", kNone)               \
                                                          X(Cvttpd2dq, "cvttpd2dq", kNone)

#define SM_FLOAT_COMPARISONS(X) \
  X(Comiss, "comiss") X(Comisd, "comisd") X(Ucomiss, "ucomiss") X(Ucomisd, "ucomisd")

namespace sm::soft {

namespace {

// The host's instructions, by the name of their Op.
namespace host {
#define SM_DEFINE(name, text, tiny)                             \
  struct name {                                                 \
    static constexpr TinyResults kTiny = TinyResults::tiny;     \
    static void run(Vec& value, Vec source) {                   \
      asm volatile(text " %1, %0" : "+x"(value) : "x"(source)); \
    }                                                           \
  };
SM_FLOAT_OPERATIONS(SM_DEFINE)
#undef SM_DEFINE

// COMISS and its kin clear OF, SF and AF.
#define SM_DEFINE(name, text)                                                              \
  struct name {                                                                            \
    static void run(Vec first, Vec second, std::uint32_t& flags) {                         \
      flags = 0;                                                                           \
      asm volatile(text " %2, %1\n\tlahf" : "+a"(flags) : "x"(first), "x"(second) : "cc"); \
    }                                                                                      \
  };
SM_FLOAT_COMPARISONS(SM_DEFINE)
#undef SM_DEFINE
}  // namespace host

template <class Host>
Next float_operation(Cpu& cpu, const Insn& insn) {
  Vec source;
  if (!sse_ready(cpu) || !load_source(cpu, insn, 1, source)) {
    return Next::kAborted;
  }
  Vec value = xmm(cpu, insn.operand[0].reg);
  if (!run_float(cpu, Host::kTiny, value, [&] { Host::run(value, source); })) {
    return Next::kAborted;
  }
  set_xmm(cpu, insn.operand[0].reg, value);
  return Next::kNext;
}

template <class Host>
Next float_comparison(Cpu& cpu, const Insn& insn) {
  Vec source;
  if (!sse_ready(cpu) || !load_source(cpu, insn, 1, source)) {
    return Next::kAborted;
  }
  const Vec value = xmm(cpu, insn.operand[0].reg);
  std::uint32_t flags = 0;
  if (!run_float(cpu, TinyResults::kNone, value, [&] { Host::run(value, source, flags); })) {
    return Next::kAborted;
  }
  cpu.status.ax = static_cast<std::uint16_t>(flags);
  return Next::kNext;
}

#define SM_ENTRY_OPERATION(name, text, tiny) {Op::k##name, float_operation<host::name>},
#define SM_ENTRY_COMPARISON(name, text) {Op::k##name, float_comparison<host::name>},
constexpr SemanticEntry kEntries[] = {
    // clang-format off
    SM_FLOAT_OPERATIONS(SM_ENTRY_OPERATION)
    SM_FLOAT_COMPARISONS(SM_ENTRY_COMPARISON)
    // clang-format on
};

}  // namespace

std::span<const SemanticEntry> vector_float_semantics() { return kEntries; }

}  // namespace sm::soft
