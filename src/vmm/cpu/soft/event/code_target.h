// The code segment that a control transfer leads to, with the checks of each kind of transfer.
// Thread: the vCPU's own. Spec: SDM vol. 3, 5.8; vol. 2, CALL, JMP, RET, IRET, INT n.
//
// False: a fault is raised or a device is waited for; nothing has happened.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/event/segments.h"

namespace sm::soft {

struct CodeTarget {
  DescriptorEntry entry;
  std::uint8_t cpl = 0;  // the one its code will run with

  bool is_64bit(const Cpu& cpu) const { return cpu.long_mode() && entry.attributes().is_long(); }
};

// Through an interrupt, trap or call gate. In long mode the target must be 64-bit code.
bool check_gate_target(Cpu& cpu, std::uint16_t selector, std::uint32_t ext, CodeTarget& out);
// A far JMP or CALL to the segment `out.entry`, which has been fetched.
bool check_direct_target(Cpu& cpu, CodeTarget& out);
// A far RET or IRET, to the same or an outer ring.
bool check_return_target(Cpu& cpu, std::uint16_t selector, CodeTarget& out);
// `offset` must be canonical or within the limit. Outside 64-bit code it is cut to 32 bits.
bool check_target_offset(Cpu& cpu, const CodeTarget& target, std::uint32_t ext,
                         std::uint64_t& offset);

// Goes there: CS, CPL, mode and RIP. The accessed bit has been set by mark_target_accessed().
void enter_target(Cpu& cpu, const CodeTarget& target, std::uint64_t offset);
bool mark_target_accessed(Cpu& cpu, CodeTarget& target);

}  // namespace sm::soft
