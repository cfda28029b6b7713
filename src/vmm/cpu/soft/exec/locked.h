// Locked operations that the host cannot do in one step (across cache lines, on pages with code, on
// devices): the other vCPUs stand still while an ordinary load and store are made.
// Thread: the vCPU's own, inside a semantic function that has changed nothing yet.
#pragma once

#include <functional>

#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

// Calls `work` with all other vCPUs out of the guest. Translations may have changed since
// the instruction began: `work` looks them up again.
bool with_others_stopped(Cpu& cpu, const std::function<bool()>& work);

}  // namespace sm::soft
