#include "vmm/cpu/soft/exec/vector_common.h"

namespace sm::soft {

bool vector_address(Cpu& cpu, const Insn& insn, std::uint32_t size, Alignment alignment,
                    bool is_write, std::uint64_t& linear) {
  if (!linear_address(cpu, insn.segment, effective_offset(cpu, insn), size, is_write, linear)) {
    return false;
  }
  if (size == 16 && alignment == Alignment::kVector && (linear & 15) != 0) {
    raise(cpu, vector::kProtection, 0);
    return false;
  }
  return true;
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
