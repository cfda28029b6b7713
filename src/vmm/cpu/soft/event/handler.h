// Entering the handler of one event: gate, stack, frame. deliver.cc is the only caller.
// Thread: the vCPU's own. Spec: SDM vol. 3, 6.12, 6.14 and 20.1.4.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

struct Event {
  std::uint8_t vector = 0;
  bool is_software = false;  // INT n, INT3, INTO: the gate's DPL counts and EXT is 0
  bool has_error_code = false;
  std::uint32_t error_code = 0;
  std::uint64_t return_rip = 0;
  bool resume = false;  // RF in the frame: the faulting instruction is not to hit its breakpoint

  std::uint32_t ext() const { return is_software ? 0 : 1; }
};

// False: Cpu::fault is set or a device is waited for; nothing has happened.
bool enter_handler(Cpu& cpu, const Event& event);

}  // namespace sm::soft
