#include "vmm/cpu/soft/exec/vector_common.h"

namespace sm::soft {

bool vector_address(Cpu& cpu, const Insn& insn, std::uint32_t size, Alignment alignment,
                    bool is_write, std::uint64_t& linear) {
  const std::uint64_t offset = effective_offset(cpu, insn);
  if (size == 16 && alignment == Alignment::kVector) {
    // Before the other checks of the address: what is neither aligned nor canonical is #GP even in
    // the stack segment.
    const bool is_flat = cpu.mode == CodeMode::k64 && insn.segment < Segment::kFs;
    const SegmentRegister& segment = cpu.segment[static_cast<unsigned>(insn.segment)];
    if (((offset + (is_flat ? 0 : segment.base)) & 15) != 0) {
      raise(cpu, vector::kProtection, 0);
      return false;
    }
  }
  return linear_address(cpu, insn.segment, offset, size, is_write, linear);
}

bool load_vector(Cpu& cpu, const Insn& insn, std::uint32_t size, Alignment alignment, Vec& value) {
  std::uint64_t linear = 0;
  if (!vector_address(cpu, insn, size, alignment, false, linear)) {
    return false;
  }
  value = _mm_setzero_si128();
  return load_linear(cpu, linear, &value, size > 16 ? 16 : size);
}

bool store_vector(Cpu& cpu, const Insn& insn, std::uint32_t size, Alignment alignment, Vec value) {
  std::uint64_t linear = 0;
  return vector_address(cpu, insn, size, alignment, true, linear) &&
         store_linear(cpu, linear, &value, size > 16 ? 16 : size);
}

}  // namespace sm::soft
