// How handlers reach their operands: registers by byte offset, memory by one probe of the TLB, and
// what they do when that does not answer.
// Thread: the vCPU's own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vmm/cpu/soft/access.h"
#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/fast/slow.h"
#include "vmm/cpu/soft/fast/uop.h"

namespace sm::soft::fast {

// ---- Registers

inline std::byte* gpr_at(Cpu& cpu, std::uint8_t offset) {
  return reinterpret_cast<std::byte*>(cpu.gpr.data()) + offset;
}
template <class T>
T load_from(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}
template <class T>
void store_to(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof(T));
}
template <class T>
T read_gpr_at(Cpu& cpu, std::uint8_t offset) {
  return load_from<T>(gpr_at(cpu, offset));
}
// Writes of 4 bytes clear the upper half.
template <class T>
void write_gpr_at(Cpu& cpu, std::uint8_t offset, T value) {
  if constexpr (sizeof(T) == 4) {
    store_to<std::uint64_t>(gpr_at(cpu, offset), static_cast<std::uint32_t>(value));
  } else {
    store_to<T>(gpr_at(cpu, offset), value);
  }
}

// ---- Memory

// [base + disp] (also relative to rip and absolute), with an index, and with a segment base as
// well.
enum class Shape : std::uint8_t { kBase, kIndexed, kSegment };
inline constexpr std::size_t kShapes = 3;

template <Shape kShape>
[[gnu::always_inline]] inline std::uint64_t address_of(Cpu& cpu, const Uop* uop) {
  std::uint64_t address = read_gpr_at<std::uint64_t>(cpu, uop->base) +
                          static_cast<std::uint64_t>(std::int64_t{uop->disp});
  if constexpr (kShape != Shape::kBase) {
    address += read_gpr_at<std::uint64_t>(cpu, uop->index) << uop->scale;
  }
  if constexpr (kShape == Shape::kSegment) {
    const auto* segments = reinterpret_cast<const std::byte*>(cpu.segment.data());
    address += load_from<std::uint64_t>(segments + uop->segment + offsetof(SegmentRegister, base));
  }
  return address;
}

// As probe(), which leaves the compiler in doubt whether a translation can be null.
[[gnu::always_inline]] inline std::byte* find_bytes(const TlbEntry* tlb, std::uint64_t linear,
                                                    std::uint32_t size) {
  const TlbEntry& entry = tlb[(linear >> 12) % kTlbEntries];
  const std::uint64_t offset = linear ^ entry.tag;
  if (offset > 4096 - size) return nullptr;
  std::byte* bytes = entry.host + offset;
  if (bytes == nullptr) __builtin_unreachable();
  return bytes;
}

inline constexpr std::uint64_t kStackWord = 8;  // what PUSH, POP, CALL and RET move

// ---- Operands as types: locate() gives the host's bytes, null in a slow case.

struct DstReg {
  static constexpr bool kIsMemory = false;
  template <class T>
  [[gnu::always_inline]] static std::byte* locate(Cpu& cpu, const Uop* uop) {
    return gpr_at(cpu, uop->dst);
  }
  template <class T>
  static void store(std::byte* at, T value) {
    if constexpr (sizeof(T) == 4) {
      store_to<std::uint64_t>(at, static_cast<std::uint32_t>(value));
    } else {
      store_to<T>(at, value);
    }
  }
};
struct SrcReg {
  static constexpr bool kIsMemory = false;
  template <class T>
  [[gnu::always_inline]] static const std::byte* locate(Cpu& cpu, const Uop* uop) {
    return gpr_at(cpu, uop->src);
  }
};
struct SrcImm {
  static constexpr bool kIsMemory = false;
  template <class T>
  [[gnu::always_inline]] static const std::byte* locate(Cpu& /*cpu*/, const Uop* uop) {
    return reinterpret_cast<const std::byte*>(&uop->imm);
  }
};
template <Shape kShape>
struct SrcMem {
  static constexpr bool kIsMemory = true;
  template <class T>
  [[gnu::always_inline]] static const std::byte* locate(Cpu& cpu, const Uop* uop) {
    return find_bytes(cpu.read_tlb, address_of<kShape>(cpu, uop), sizeof(T));
  }
};
// To be written, perhaps read before.
template <Shape kShape>
struct DstMem {
  static constexpr bool kIsMemory = true;
  template <class T>
  [[gnu::always_inline]] static std::byte* locate(Cpu& cpu, const Uop* uop) {
    return find_bytes(cpu.write_tlb, address_of<kShape>(cpu, uop), sizeof(T));
  }
  template <class T>
  static void store(std::byte* at, T value) {
    store_to<T>(at, value);
  }
};

}  // namespace sm::soft::fast
