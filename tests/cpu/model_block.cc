#include "tests/cpu/model_block.h"

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "vmm/cpu/soft/fast/block.h"
#include "vmm/cpu/soft/fast/insn_cache.h"
#include "vmm/cpu/soft/fast/translate.h"
#include "vmm/cpu/soft/mmu/tlb.h"

namespace sm::cpu_fuzz {

bool run_as_block(soft::Cpu& cpu, std::span<const std::uint8_t> code) {
  // Behind the instruction is one that cannot be decoded, which ends the block.
  constexpr std::uint8_t kUndefined = 0x06;
  std::array<std::uint8_t, soft::kPageSize> page;
  page.fill(kUndefined);
  const auto offset = static_cast<std::uint16_t>(cpu.rip % soft::kPageSize);
  std::copy(code.begin(), code.end(), page.begin() + offset);
  static soft::TranslatedBlock made;
  if (!soft::translate(std::span(page).subspan(offset), offset, nullptr, made)) return false;

  // Nothing is known of where branches go.
  static std::vector<soft::JumpEntry> no_jumps(soft::kJumpEntries + 1);
  no_jumps[0].address = 1;
  ++no_jumps[soft::kJumpEntries].address;  // the epoch
  cpu.returns = {};
  cpu.jumps = no_jumps.data();
  cpu.gpr[17] = cpu.rip - offset;
  cpu.budget = std::numeric_limits<std::int64_t>::max();
  cpu.blocks.aborted = false;
  static soft::BlockMemory memory;
  static soft::InsnCache insns;
  insns.clear();
  cpu.blocks.insns = &insns;
  memory.clear();
  soft::BlockPage blocks;
  soft::execute(cpu, blocks.add(memory, offset, reinterpret_cast<const std::byte*>(page.data()),
                                made.all_uops(), made.all_insns()));
  return !cpu.blocks.aborted;
}

}  // namespace sm::cpu_fuzz
