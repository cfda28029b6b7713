// What the vector handlers share.
// Thread: the vCPU's own.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/exec/vector_common.h"
#include "vmm/cpu/soft/fast/operands.h"

namespace sm::soft::fast {

// Whether SSE instructions may run now, as sse_ready() without the fault.
inline bool sse_usable(const Cpu& cpu) {
  return ((cpu.cr0 & (kCr0Em | kCr0Ts)) | (~cpu.cr4 & kCr4Osfxsr)) == 0;
}

inline std::byte* xmm_at(Cpu& cpu, std::uint8_t offset) {
  return reinterpret_cast<std::byte*>(cpu.fx.xmm.data()) + offset;
}
inline Vec load_vec(const std::byte* at) {
  return _mm_loadu_si128(reinterpret_cast<const Vec*>(at));
}
inline void store_vec(std::byte* at, Vec value) {
  _mm_storeu_si128(reinterpret_cast<Vec*>(at), value);
}
// Page offsets are the same on the host.
inline bool is_aligned(const std::byte* at) {
  return reinterpret_cast<std::uintptr_t>(at) % 16 == 0;
}

}  // namespace sm::soft::fast
