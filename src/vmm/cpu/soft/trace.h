// Tracing for debugging the software CPU itself: one line per instruction and per fault on standard
// error. Compiled in with -DSM_SOFT_TRACE only; the functions vanish otherwise.
#pragma once

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/insn.h"

#ifdef SM_SOFT_TRACE
#include <cstdio>
#endif

namespace sm::soft {

#ifdef SM_SOFT_TRACE
inline void trace_insn(const Cpu& cpu, const Insn& insn) {
  std::fprintf(stderr,
               "%u %016llx op %u len %u ax %llx cx %llx dx %llx bx %llx sp %llx si %llx di %llx\n",
               cpu.index, static_cast<unsigned long long>(cpu.rip), static_cast<unsigned>(insn.op),
               insn.length, static_cast<unsigned long long>(cpu.gpr[kRax]),
               static_cast<unsigned long long>(cpu.gpr[kRcx]),
               static_cast<unsigned long long>(cpu.gpr[kRdx]),
               static_cast<unsigned long long>(cpu.gpr[kRbx]),
               static_cast<unsigned long long>(cpu.gpr[kRsp]),
               static_cast<unsigned long long>(cpu.gpr[kRsi]),
               static_cast<unsigned long long>(cpu.gpr[kRdi]));
}
inline void trace_fault(const Cpu& cpu) {
  std::fprintf(stderr, "%u %016llx fault %u error %x address %llx\n", cpu.index,
               static_cast<unsigned long long>(cpu.rip), cpu.fault.vector, cpu.fault.error_code,
               static_cast<unsigned long long>(cpu.fault.address));
}
#else
inline void trace_insn(const Cpu& /*cpu*/, const Insn& /*insn*/) {}
inline void trace_fault(const Cpu& /*cpu*/) {}
#endif

}  // namespace sm::soft
