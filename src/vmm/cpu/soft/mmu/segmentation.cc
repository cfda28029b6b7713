// Logical to linear addresses. Spec: SDM vol. 3, 3.4, 5.3 to 5.5; vol. 1, 3.3.7.1.
#include <bit>

#include "vmm/cpu/soft/access.h"
#include "vmm/cpu/soft/mmu/physical_memory.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

namespace {

constexpr std::uint64_t kCr0AlignmentMask = 1ull << 18;

bool is_canonical(std::uint64_t linear) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(linear << 16) >> 16) == linear;
}

bool refuse(Cpu& cpu, Segment segment) {
  raise(cpu, segment == Segment::kSs ? vector::kStack : vector::kProtection, 0);
  return false;
}

// The type field of a code or data segment.
constexpr std::uint16_t kCode = 8, kExpandDown = 4, kReadableOrWritable = 2;

bool may_access(const SegmentRegister& segment, bool is_write) {
  if ((segment.attributes & kCode) != 0) {
    return !is_write && (segment.attributes & kReadableOrWritable) != 0;
  }
  return !is_write || (segment.attributes & kReadableOrWritable) != 0;
}

// An expand-down segment holds the offsets above its limit, up to 64 KiB or 4 GiB by its B bit.
bool inside_limit(const SegmentRegister& segment, std::uint64_t offset, std::uint32_t size) {
  const std::uint64_t last = offset + (size == 0 ? 0 : size - 1);
  if ((segment.attributes & (kCode | kExpandDown)) == kExpandDown) {
    const std::uint64_t top = (segment.attributes & (1u << 14)) != 0 ? 0xFFFF'FFFF : 0xFFFF;
    return offset > segment.limit && last <= top;
  }
  return last <= segment.limit;
}

// Spec: SDM vol. 3, 6.15, interrupt 17. Of the sizes that have an alignment of their own.
bool check_alignment(Cpu& cpu, std::uint64_t linear, std::uint32_t size) {
  const bool armed =
      cpu.cpl == 3 && (cpu.other_flags & eflags::kAc) != 0 && (cpu.cr0 & kCr0AlignmentMask) != 0;
  if (!armed || size > 8 || !std::has_single_bit(size) || (linear & (size - 1)) == 0) return true;
  raise(cpu, vector::kAlignment, 0);
  return false;
}

}  // namespace

bool linear_address(Cpu& cpu, Segment segment, std::uint64_t offset, std::uint32_t size,
                    bool is_write, std::uint64_t& linear) {
  const SegmentRegister& reg = cpu.segment[static_cast<std::size_t>(segment)];
  if (cpu.mode == CodeMode::k64) {
    const bool has_base = segment == Segment::kFs || segment == Segment::kGs;
    linear = has_base ? reg.base + offset : offset;
    const std::uint64_t last = linear + (size == 0 ? 0 : size - 1);
    if (!is_canonical(linear) || !is_canonical(last)) return refuse(cpu, segment);
    return check_alignment(cpu, linear, size);
  }
  if (!reg.usable || !may_access(reg, is_write) || !inside_limit(reg, offset, size)) {
    return refuse(cpu, segment);
  }
  linear = (reg.base + offset) & 0xFFFF'FFFF;
  return check_alignment(cpu, linear, size);
}

std::uint64_t effective_offset(const Cpu& cpu, const Insn& insn) {
  const std::uint64_t base = insn.base == kRipRegister ? cpu.rip + insn.length : cpu.gpr[insn.base];
  const std::uint64_t offset =
      base + (cpu.gpr[insn.index] << insn.scale) + static_cast<std::uint64_t>(insn.displacement);
  switch (insn.address_size) {
    case 2:
      return offset & 0xFFFF;
    case 4:
      return offset & 0xFFFF'FFFF;
    default:
      return offset;
  }
}

}  // namespace sm::soft
