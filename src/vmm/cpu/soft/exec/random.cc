// RDRAND and RDSEED: the host kernel's random numbers.
#include <sys/random.h>

#include <array>

#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/operand.h"

namespace sm::soft {

namespace {

// CF says that there is a number; without one the destination is zero. The other flags are cleared.
// The host always has one, unless it refuses the system call.
Next random(Cpu& cpu, const Insn& insn) {
  std::uint64_t value = 0;
  const bool ok = getrandom(&value, sizeof(value), GRND_NONBLOCK) == sizeof(value);
  write_sized(cpu, insn.operand[0].reg, insn.operand[0].size, ok ? value : 0);
  cpu.status = StatusFlags::from_eflags(ok ? eflags::kCf : 0);
  return Next::kNext;
}

}  // namespace

std::span<const SemanticEntry> random_semantics() {
  static constexpr std::array kEntries = std::to_array<SemanticEntry>({
      {Op::kRdrand, random},
      {Op::kRdseed, random},
  });
  return kEntries;
}

}  // namespace sm::soft
