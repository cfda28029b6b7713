// Quick handlers of the common x87 operations, for the usual case: all exceptions masked and the
// registers in use as they should be. Only the registers an operation needs go through the host's.
// Everything else is x87_general's; the tests compare the two.
#pragma once

#include <span>

#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

std::span<const SemanticEntry> x87_fast_semantics();

}  // namespace sm::soft
