// PublishedCounters: a vCPU counts in plain variables of its own; now and then it lays a copy of
// them down here for others to read, so that counting itself costs no more than it would without
// them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/vcpu_counters.h"

namespace sm::soft {

inline VcpuCounters counters_of(const Cpu& cpu) {
  return {.instructions = cpu.instructions(),
          .blocks_made = cpu.blocks.blocks_made,
          .instructions_decoded = cpu.blocks.insns_made,
          .semantic_calls = cpu.blocks.semantic_calls,
          .block_lookups = cpu.blocks.lookups,
          .tlb_misses = cpu.counts.tlb_misses,
          .exceptions = cpu.counts.exceptions,
          .page_faults = cpu.counts.page_faults,
          .interrupts = cpu.counts.interrupts,
          .halts = cpu.counts.halts};
}

class PublishedCounters {
 public:
  // Thread: the vCPU's own.
  void publish(const Cpu& cpu) {
    const VcpuCounters counters = counters_of(cpu);
    for (std::size_t i = 0; i < values_.size(); ++i) {
      values_[i].store(counters.*kVcpuCounterNames[i].value, std::memory_order_relaxed);
    }
    times_.fetch_add(1, std::memory_order_release);
  }

  // Any thread. How often there was a publish(), and what the last one or the one at hand says.
  std::uint64_t times() const { return times_.load(std::memory_order_acquire); }
  VcpuCounters read() const {
    VcpuCounters counters;
    for (std::size_t i = 0; i < values_.size(); ++i) {
      counters.*kVcpuCounterNames[i].value = values_[i].load(std::memory_order_relaxed);
    }
    return counters;
  }

 private:
  std::array<std::atomic<std::uint64_t>, kVcpuCounterNames.size()> values_{};
  std::atomic<std::uint64_t> times_{0};
};

}  // namespace sm::soft
