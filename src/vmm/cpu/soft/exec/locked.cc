#include "vmm/cpu/soft/exec/locked.h"

#include "vmm/cpu/soft/machine.h"

namespace sm::soft {

bool with_others_stopped(Cpu& cpu, const std::function<bool()>& work) {
  const Machine::StopOthers stopped(*cpu.machine, cpu);
  return work();
}

}  // namespace sm::soft
