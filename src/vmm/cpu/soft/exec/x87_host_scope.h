// The guest's x87 control word, in force on the host while a quick handler runs one instruction.
// Thread: the vCPU's.
//
// The host's exception flags are kept a subset of the guest's, as those of MXCSR are, so that they
// need no clearing (FNCLEX is slow) before nearly every instruction.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/exec/x87_state.h"

namespace sm::soft {

class X87HostScope {
 public:
  // Only with all of the guest's exceptions masked.
  explicit X87HostScope(FxState& fx) : fx_(fx) {
    std::uint16_t status = 0;
    asm volatile("fnstcw %0\n\tfnstsw %1" : "=m"(control_), "=a"(status));
    if ((status & ~fx.status & (x87::kExceptions | x87::kStackFault)) != 0) [[unlikely]] {
      asm volatile("fnclex");
    }
    if (control_ != fx.control) [[unlikely]] {
      asm volatile("fldcw %0" : : "m"(fx.control));
    }
  }
  ~X87HostScope() {
    if (control_ != fx_.control) [[unlikely]] {
      asm volatile("fldcw %0" : : "m"(control_));
    }
  }
  X87HostScope(const X87HostScope&) = delete;
  X87HostScope& operator=(const X87HostScope&) = delete;
  X87HostScope(X87HostScope&&) = delete;
  X87HostScope& operator=(X87HostScope&&) = delete;

 private:
  FxState& fx_;
  std::uint16_t control_ = 0;
};

}  // namespace sm::soft
