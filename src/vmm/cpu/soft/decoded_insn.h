// An instruction with its semantic function: what both ways to execute keep of decoded code.
#pragma once

#include "vmm/cpu/soft/insn.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

struct DecodedInsn {
  Insn insn;
  Semantic function = nullptr;
};

}  // namespace sm::soft
