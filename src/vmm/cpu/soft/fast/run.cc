#include "vmm/cpu/soft/fast/run.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <utility>

#include "vmm/cpu/soft/code_cache.h"
#include "vmm/cpu/soft/decode/decoder.h"
#include "vmm/cpu/soft/fast/jump.h"
#include "vmm/cpu/soft/fast/translate.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/mmu/mmu.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

namespace {

// What instructions are near enough to the end of their page to leave it.
constexpr std::uint64_t kLastOffsets = kPageSize - kMaxInsnLength + 1;

// The instruction at Cpu::rip, or a long piece of a string instruction. False: aborted.
bool execute_one(Cpu& cpu, const Insn& decoded) {
  const std::uint8_t length = decoded.length;
  Next next = perform(cpu, decoded);
  for (std::uint32_t pieces = 1; next == Next::kRepeat && pieces < kPiecesPerInstruction;
       ++pieces) {
    if (cpu.attention.load(std::memory_order_relaxed) != 0) return true;
    next = perform(cpu, decoded);
  }
  switch (next) {
    case Next::kNext:
      cpu.rip += length;
      break;
    case Next::kJump:
    case Next::kRepeat:
      break;
    case Next::kAborted:
      return false;
  }
  --cpu.budget;
  return true;
}

// Behind the last instruction of a block where the next one lies on two pages: does that as well,
// if it is kept.
const Uop* run_crossing(Cpu& cpu, const Uop* uop, Ahead /*ahead*/) {
  cpu.rip = fast::branch_target(cpu, uop);
  if (!fast::may_go_on(cpu, uop)) return nullptr;
  const Insn* kept = cpu.code->kept_crossing(cpu.rip);
  if (kept == nullptr) return nullptr;
  cpu.blocks.aborted = !execute_one(cpu, *kept);
  return cpu.blocks.aborted || cpu.halted ? nullptr : fast::continue_anywhere(cpu);
}

// Of a copy of the page: where the block ends is known behind the translation, and only when the
// lines up to there are marked does a write to them make itself heard. Until then it shows in a
// comparison. False also when others write there all the time: this vCPU serves requests then.
bool translate_page(Cpu& cpu, const CodePage& page, std::uint16_t offset, TranslatedBlock& made) {
  std::array<std::uint8_t, kBlockBytes> copy;
  const std::size_t size = std::min(copy.size(), kPageSize - offset);
  const std::byte* from = page.host + offset;
  constexpr int kTries = 8;
  for (int i = 0; i < kTries; ++i) {
    std::memcpy(copy.data(), from, size);
    if (!translate(std::span(copy).first(size), offset, run_crossing, made)) return false;
    const auto end = static_cast<std::size_t>(made.uops[made.count].disp);
    cpu.machine->pages().add_code_lines(page.page, offset, end);
    if (std::memcmp(copy.data(), from, end - offset) == 0) return true;
  }
  return false;
}

// The block at `offset` of a page, made if there is none. Null: the instruction cannot be kept.
const Uop* block_at(Cpu& cpu, CodePage& page, std::uint64_t offset) {
  if (const Uop* block = page.blocks.find(offset)) return block;
  TranslatedBlock& made = cpu.code->translated();
  if (!translate_page(cpu, page, static_cast<std::uint16_t>(offset), made)) return nullptr;
  cpu.code->add_insns(made.count);
  ++cpu.blocks.blocks_made;
  cpu.blocks.insns_made += made.count;
  return page.blocks.add(cpu.code->memory(), offset, page.host, made.all_uops(), made.all_insns());
}

// The block at Cpu::rip. Null: the instruction there has to be executed alone or, with `fault`, not
// at all.
const Uop* find_block(Cpu& cpu, bool& fault) {
  const std::uint64_t linear = cpu.rip;
  fault = false;
  const JumpEntry& entry = fast::jump_entry(cpu, linear);
  if (entry.address == linear) return entry.block;
  ++cpu.blocks.lookups;
  CodePage* page = cpu.code->find_page(linear, fault);
  if (page == nullptr) return nullptr;
  const std::uint64_t offset = linear & kPageMask;
  if (offset >= kLastOffsets && cpu.code->is_crossing(linear)) return nullptr;
  const Uop* block = block_at(cpu, *page, offset);
  if (block != nullptr) cpu.mmu->current_bank().insert_jump(linear, block);
  return block;
}

// The instruction at Cpu::rip lies on two pages, in memory that is not RAM, or is none.
bool execute_alone(Cpu& cpu) {
  const Insn* decoded = cpu.code->fetch_crossing(cpu.rip);
  return decoded != nullptr && execute_one(cpu, *decoded);
}

// False: aborted.
bool run_next(Cpu& cpu) {
  const BlockLink link = std::exchange(cpu.blocks.link, {});
  const std::uint64_t drops = cpu.code->drops();
  bool fault = false;
  const Uop* block = find_block(cpu, fault);
  if (fault) return false;
  if (block == nullptr) return execute_alone(cpu);
  if (link.from != nullptr && cpu.code->drops() == drops && same_page(link.from, block)) {
    if (link.returns) {
      CallLink::behind(link.from).return_to(block);
    } else {
      fast::set_target(link.from, block);
    }
  }
  fast::enter_page_of(cpu, cpu.rip);
  execute(cpu, block);
  if (std::exchange(cpu.blocks.stale, false)) cpu.code->drop_all();
  return !cpu.blocks.aborted;
}

}  // namespace

BlockStop run_blocks(Cpu& cpu, std::int64_t budget) {
  cpu.budget = budget;
  cpu.blocks.link = {};
  cpu.blocks.aborted = false;
  bool going = true;
  while (going && cpu.budget > 0 && cpu.mode == CodeMode::k64 &&
         cpu.attention.load(std::memory_order_relaxed) == 0) {
    going = run_next(cpu);
    if (cpu.halted) cpu.attention.fetch_or(kAttentionInterrupt);
  }
  cpu.blocks.instructions += static_cast<std::uint64_t>(budget - cpu.budget);
  return going ? BlockStop::kRequest : BlockStop::kAborted;
}

}  // namespace sm::soft
