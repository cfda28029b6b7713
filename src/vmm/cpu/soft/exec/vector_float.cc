// SSE floating-point operations between XMM registers and memory that MXCSR governs, and the
// comparisons that set EFLAGS. The host executes each of them itself.
#include "vmm/cpu/soft/exec/mxcsr.h"
#include "vmm/cpu/soft/exec/vector_common.h"

namespace sm::soft {

namespace {

// The host's instructions, by the name of their Op.
namespace host {

#define SM_FLOAT(name, text, tiny)                               \
  struct name {                                                  \
    static constexpr TinyResults kTiny = TinyResults::tiny;      \
    static void run(Vec& value, Vec source) {                    \
      asm volatile(#text " %1, %0" : "+x"(value) : "x"(source)); \
    }                                                            \
  };

// COMISS and its kin clear OF, SF and AF.
#define SM_COMPARE(name, text)                                                              \
  struct name {                                                                             \
    static void run(Vec first, Vec second, std::uint32_t& flags) {                          \
      flags = 0;                                                                            \
      asm volatile(#text " %2, %1\n\tlahf" : "+a"(flags) : "x"(first), "x"(second) : "cc"); \
    }                                                                                       \
  };

#include "vmm/cpu/soft/exec/vector_ops.def"

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

constexpr SemanticEntry kEntries[] = {
#define SM_FLOAT(name, text, tiny) {Op::k##name, float_operation<host::name>},
#define SM_COMPARE(name, text) {Op::k##name, float_comparison<host::name>},
#include "vmm/cpu/soft/exec/vector_ops.def"
};

}  // namespace

std::span<const SemanticEntry> vector_float_semantics() { return kEntries; }

}  // namespace sm::soft
