// FlatMachine: one software vCPU in 64-bit mode with memory and page tables of its own and without
// devices, run by single instructions or by blocks. For tests and benchmarks.
// Thread: one per object.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "vmm/cpu/soft/apic/platform.h"
#include "vmm/cpu/soft/code_cache.h"
#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/mmu/mmu.h"
#include "vmm/cpu/soft/time/clock.h"
#include "vmm/cpu/soft/time/timer_queue.h"
#include "vmm/memory/guest_memory.h"

namespace sm::cpu_test {

// Of a page table entry.
inline constexpr std::uint64_t kPresent = 1, kWritable = 2, kUser = 4, kNoExecute = 1ull << 63;

// The two ways to execute.
enum class Way : std::uint8_t { kReference, kBlocks };

struct Ran {
  std::int64_t instructions = 0;
  bool aborted = false;  // Cpu::fault says why
  bool random = false;   // by kReference: there was an instruction that is never the same twice
};

class FlatMachine {
 public:
  explicit FlatMachine(std::uint64_t bytes);
  ~FlatMachine() { code_.drop_all(); }
  FlatMachine(const FlatMachine&) = delete;
  FlatMachine& operator=(const FlatMachine&) = delete;
  FlatMachine(FlatMachine&&) = delete;
  FlatMachine& operator=(FlatMachine&&) = delete;

  soft::Cpu& cpu() { return cpu_; }
  soft::Mmu& mmu() { return mmu_; }
  std::uint64_t drops() const { return code_.drops(); }
  std::byte* ram(std::uint64_t physical) { return machine_.memory().host(physical); }
  // Writes as a device does: code made of the bytes goes.
  void write(std::uint64_t physical, std::span<const std::uint8_t> bytes);

  // A page of 4 KiB. Tables come from the top of memory.
  void map(std::uint64_t linear, std::uint64_t physical, std::uint64_t flags);

  // At least `budget` instructions; exactly that many by kReference.
  Ran run(Way way, std::int64_t budget);
  // Parts of the repeated string instruction at Cpu::rip, by kReference, until rcx is `count` or
  // the instruction is over. Nothing where no such instruction is.
  void repeat_until(std::uint64_t count);
  // Until the instruction at `rip`, or an aborted one.
  Ran run_until(Way way, std::uint64_t rip);

 private:
  std::uint64_t& word(std::uint64_t physical) {
    return *reinterpret_cast<std::uint64_t*>(ram(physical));
  }
  void serve();
  Ran run_reference(std::int64_t budget);
  Ran run_blocks(std::int64_t budget);

  std::unique_ptr<GuestMemory> memory_;
  std::uint64_t next_table_;
  std::uint64_t root_;
  soft::Machine machine_;
  soft::Cpu cpu_;
  soft::Mmu mmu_;
  soft::CodeCache code_;
  soft::VirtualClock clock_{1'000'000, 0};  // time stands still
  soft::PolledTimers timers_;
  soft::Platform platform_;
  soft::VcpuPlatform vcpu_platform_;
};

}  // namespace sm::cpu_test
