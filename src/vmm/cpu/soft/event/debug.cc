#include "vmm/cpu/soft/event/debug.h"

#include "vmm/cpu/soft/event/flags.h"
#include "vmm/cpu/soft/event/permission.h"

namespace sm::soft {

namespace {

constexpr std::uint32_t kGeneralDetect = 1u << 13;                   // of DR7
constexpr std::uint64_t kDr6Writable = 0xE00F, kDr7Unused = 0xD800;  // BT BS BD B3-B0

// DR7's R/W field.
enum class Condition : std::uint8_t { kExecute, kWrite, kPort, kAccess };

struct Breakpoint {
  bool enabled;
  Condition condition;
  std::uint64_t start;
  std::uint64_t size;
};

Breakpoint breakpoint(const Cpu& cpu, unsigned i) {
  constexpr std::uint8_t kLengths[4] = {1, 2, 8, 4};
  const auto field = static_cast<unsigned>(cpu.dr7 >> (16 + i * 4));
  const std::uint64_t size = kLengths[(field >> 2) & 3];
  return {.enabled = ((cpu.dr7 >> (i * 2)) & 3) != 0,
          .condition = static_cast<Condition>(field & 3),
          .start = cpu.dr[i] & ~(size - 1),
          .size = size};
}

template <class Matches>
std::uint32_t hits(const Cpu& cpu, Matches&& matches) {
  std::uint32_t bits = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const Breakpoint point = breakpoint(cpu, i);
    if (point.enabled && matches(point)) bits |= 1u << i;
  }
  return bits;
}

// Written so that ranges that end at the top of the address space work.
bool overlaps(const Breakpoint& point, std::uint64_t start, std::uint64_t size) {
  return start - point.start < point.size || point.start - start < size;
}

// DR4 and DR5 are DR6 and DR7 while CR4.DE is clear. Under DR7.GD every access traps.
bool open(Cpu& cpu, std::uint32_t& number) {
  if (number == 4 || number == 5) {
    if ((cpu.cr4 & cr4::kDe) != 0) return refuse(cpu, vector::kUndefined);
    number += 2;
  }
  if ((cpu.dr7 & kGeneralDetect) == 0) return true;
  cpu.dr6 |= kDebugAccess;
  return refuse(cpu, vector::kDebug);
}

}  // namespace

bool read_debug(Cpu& cpu, std::uint32_t number, std::uint64_t& value) {
  if (!open(cpu, number)) return false;
  value = number == 7 ? cpu.dr7 : number == 6 ? cpu.dr6 : cpu.dr[number & 3];
  return true;
}

bool write_debug(Cpu& cpu, std::uint32_t number, std::uint64_t value) {
  if (!open(cpu, number)) return false;
  if (number < 4) {
    cpu.dr[number] = value;
    return true;
  }
  if (value >> 32 != 0) return refuse(cpu, vector::kProtection, 0);
  if (number == 6) {
    cpu.dr6 = (value & kDr6Writable) | kDr6Fixed;
  } else {
    cpu.dr7 = (value & ~kDr7Unused) | kDr7Fixed;
    if (breakpoints_armed(cpu)) request_attention(cpu, kAttentionSingle);
  }
  return true;
}

std::uint32_t instruction_breakpoints(const Cpu& cpu, std::uint64_t linear) {
  if ((cpu.other_flags & eflags::kRf) != 0) return 0;
  return hits(cpu, [&](const Breakpoint& point) {
    return point.condition == Condition::kExecute && point.start == linear;
  });
}

std::uint32_t data_breakpoints(const Cpu& cpu, std::uint64_t linear, std::uint32_t size,
                               bool is_write) {
  return hits(cpu, [&](const Breakpoint& point) {
    const bool wanted =
        point.condition == Condition::kAccess || (is_write && point.condition == Condition::kWrite);
    return wanted && overlaps(point, linear, size);
  });
}

std::uint32_t port_breakpoints(const Cpu& cpu, std::uint16_t port, std::uint32_t size) {
  if ((cpu.cr4 & cr4::kDe) == 0) return 0;
  return hits(cpu, [&](const Breakpoint& point) {
    return point.condition == Condition::kPort && overlaps(point, port, size);
  });
}

}  // namespace sm::soft
