// Segment registers: descriptors are fetched, checked and put into registers here, and what hangs
// on CS and SS is kept in step: CPL, Cpu::mode, the MMU's bank.
// Thread: the vCPU's own. Spec: SDM vol. 3, 5.4 to 5.8 and 3.4; vol. 2, MOV, LAR, LSL, VERR.
//
// Functions that say false have raised a fault or wait for a device; then nothing has happened but
// that an accessed bit may be set.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/event/descriptor.h"

namespace sm::soft {

// A descriptor and where it stands.
struct DescriptorEntry {
  Descriptor descriptor;
  std::uint64_t linear = 0;
  std::uint16_t selector = 0;

  Attributes attributes() const { return descriptor.attributes(); }
};

enum class Lookup : std::uint8_t {
  kFound,
  kOutside,  // null, or beyond the table
  kAborted,  // a page fault or a device
};
// The entry that `selector` names, both halves where it has two.
Lookup find_descriptor(Cpu& cpu, std::uint16_t selector, DescriptorEntry& entry);
// The same where an entry must exist; outside the table `vector` is raised for the selector. `ext`
// is the EXT bit of error codes: 1 while an external event is delivered, else 0.
bool fetch_descriptor(Cpu& cpu, std::uint16_t selector, std::uint8_t vector, std::uint32_t ext,
                      DescriptorEntry& entry);
// Sets bits of the type in memory and in `entry`, if they are not set: accessed, busy.
bool set_type_bits(Cpu& cpu, DescriptorEntry& entry, std::uint16_t bits);

// Reads what the processor reads by itself, whatever the CPL: descriptor tables, TSS, vectors.
bool load_table(Cpu& cpu, std::uint64_t linear, void* out, std::uint32_t size);

// The error code that names a selector.
inline std::uint32_t selector_error(std::uint16_t selector, std::uint32_t ext = 0) {
  return (selector & 0xFFFCu) | ext;
}

// Loads `selector` into a register that is not CS, as MOV does.
bool load_segment(Cpu& cpu, Segment which, std::uint16_t selector);
// Checks `selector` as the SS for `cpl`, for returns and stack switches: a bad one raises `vector`.
// `null_allowed`: a return to 64-bit code with CPL below 3.
bool read_stack_segment(Cpu& cpu, std::uint16_t selector, std::uint8_t cpl, bool null_allowed,
                        std::uint8_t vector, std::uint32_t ext, SegmentRegister& out);

// Real mode: the base follows from the selector, limit and attributes stay.
void load_real_segment(Cpu& cpu, Segment which, std::uint16_t selector);

void set_cpl(Cpu& cpu, std::uint8_t cpl);
// What Cpu::mode must be, by CS and EFER.LMA.
CodeMode code_mode_of(const Cpu& cpu);
// CS and CPL together. The selector's low bits become the CPL.
void set_code_segment(Cpu& cpu, const SegmentRegister& cs, std::uint8_t cpl);

// A return to an outer ring: data segments that the new CPL may not use become null.
void drop_inner_segments(Cpu& cpu);

}  // namespace sm::soft
