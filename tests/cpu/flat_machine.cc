#include "tests/cpu/flat_machine.h"

#include <cstring>

#include "vmm/cpu/soft/event/segments.h"
#include "vmm/cpu/soft/fast/run.h"
#include "vmm/cpu/soft/reset.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::cpu_test {

using namespace soft;

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kCr0 = 0x80010033;  // paging, write protection, numeric errors
constexpr std::uint64_t kCr4 = 0x6B0;       // PSE, PAE, PGE, OSFXSR, OSXMMEXCPT
constexpr std::uint64_t kEfer = 0xD00;      // long mode, no-execute
constexpr std::uint16_t kLong = 1u << 13;
constexpr std::uint64_t kAddressBits = 0xFF'FFFF'F000;

}  // namespace

FlatMachine::FlatMachine(std::uint64_t bytes)
    : memory_(GuestMemory::create(bytes).value()),
      next_table_(bytes - kPage),
      root_(next_table_),
      cpu_{.index = 0, .machine = &machine_},
      mmu_(cpu_, machine_),
      code_(cpu_, machine_),
      platform_(machine_, clock_, timers_),
      vcpu_platform_(platform_, cpu_, {}) {
  next_table_ -= kPage;
  machine_.map(*memory_);
  reset_cpu(cpu_);
  machine_.attach(cpu_);
  cpu_.cr0 = kCr0;
  cpu_.cr4 = kCr4;
  cpu_.efer = kEfer;
  cpu_.cr3 = root_;
  cpu_.segment[static_cast<std::size_t>(Segment::kCs)].attributes |= kLong;
  cpu_.mode = code_mode_of(cpu_);
  cpu_.cpl = 3;
  mmu_.paging_changed();
}

void FlatMachine::write(std::uint64_t physical, std::span<const std::uint8_t> bytes) {
  std::memcpy(ram(physical), bytes.data(), bytes.size());
  machine_.code_written(physical, bytes.size());
  serve();
}

void FlatMachine::map(std::uint64_t linear, std::uint64_t physical, std::uint64_t flags) {
  std::uint64_t table = root_;
  for (int level = 4; level > 1; --level) {
    std::uint64_t& entry = word(table + (linear >> (3 + 9 * level) & 511) * 8);
    if ((entry & kPresent) == 0) {
      entry = next_table_ | kPresent | kWritable | kUser;
      next_table_ -= kPage;
    }
    table = entry & kAddressBits;
  }
  word(table + (linear >> 12 & 511) * 8) = physical | flags;
}

// What Interpreter does between instructions, as far as there is anything here.
void FlatMachine::serve() {
  if ((cpu_.attention.load() & kAttentionMemory) != 0) mmu_.handle_mail();
  cpu_.attention.store(0);
  // Nobody single-steps here; where somebody does, blocks never run with the flag.
  cpu_.other_flags &= ~eflags::kTf;
}

Ran FlatMachine::run(Way way, std::int64_t budget) {
  return way == Way::kReference ? run_reference(budget) : run_blocks(budget);
}

Ran FlatMachine::run_until(Way way, std::uint64_t rip) {
  constexpr std::int64_t kStretch = 1'000'000;
  Ran all;
  while (cpu_.rip != rip && !all.aborted) {
    // The end of a program jumps to itself, so that it is there whenever one looks.
    const Ran part = run(way, kStretch);
    all.instructions += part.instructions;
    all.aborted = part.aborted;
  }
  return all;
}

Ran FlatMachine::run_reference(std::int64_t budget) {
  Ran ran;
  std::uint32_t pieces = 0;  // of a string instruction
  while (ran.instructions < budget) {
    if (cpu_.attention.load(std::memory_order_relaxed) != 0) {
      serve();
      pieces = 0;
    }
    const Insn* decoded = code_.fetch();
    if (decoded == nullptr) {
      ran.aborted = true;
      break;
    }
    const std::uint8_t length = decoded->length;
    ran.random |= decoded->op == Op::kRdrand || decoded->op == Op::kRdseed;
    const Next next = perform(cpu_, *decoded);
    if (next == Next::kNext) cpu_.rip += length;
    ran.aborted = next == Next::kAborted;
    if (ran.aborted) break;
    pieces = next == Next::kRepeat ? (pieces + 1) % kPiecesPerInstruction : 0;
    if (pieces == 0) ++ran.instructions;
  }
  return ran;
}

void FlatMachine::repeat_until(std::uint64_t count) {
  Next next = Next::kRepeat;
  while (next == Next::kRepeat && cpu_.gpr[kRcx] != count) {
    if (cpu_.attention.load(std::memory_order_relaxed) != 0) serve();
    const Insn* decoded = code_.fetch();
    if (decoded == nullptr || decoded->repeat == Repeat::kNone) return;
    const std::uint8_t length = decoded->length;
    next = perform(cpu_, *decoded);
    if (next == Next::kNext) cpu_.rip += length;
  }
}

Ran FlatMachine::run_blocks(std::int64_t budget) {
  Ran ran;
  while (ran.instructions < budget && !ran.aborted) {
    if (cpu_.attention.load(std::memory_order_relaxed) != 0) serve();
    const std::uint64_t before = cpu_.blocks.instructions;
    ran.aborted = soft::run_blocks(cpu_, budget - ran.instructions) == BlockStop::kAborted;
    ran.instructions += static_cast<std::int64_t>(cpu_.blocks.instructions - before);
  }
  return ran;
}

}  // namespace sm::cpu_test
