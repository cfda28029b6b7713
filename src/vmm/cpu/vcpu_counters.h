// VcpuCounters: what one vCPU has done since it was created, as far as its engine can tell.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sm {

struct VcpuCounters {
  std::uint64_t instructions = 0;
  std::uint64_t blocks_made = 0;           // translated pieces of code
  std::uint64_t instructions_decoded = 0;  // for blocks
  std::uint64_t semantic_calls = 0;  // instructions of blocks without a handler, or slow cases
  std::uint64_t block_lookups = 0;   // that links and jump caches did not answer
  std::uint64_t tlb_misses = 0;
  std::uint64_t exceptions = 0;
  std::uint64_t page_faults = 0;  // of the exceptions
  std::uint64_t interrupts = 0;
  std::uint64_t halts = 0;
  bool operator==(const VcpuCounters&) const = default;
};

struct VcpuCounterName {
  std::string_view name;
  std::uint64_t VcpuCounters::*value;
};
inline constexpr std::array<VcpuCounterName, 10> kVcpuCounterNames = {{
    {"instructions", &VcpuCounters::instructions},
    {"blocks_made", &VcpuCounters::blocks_made},
    {"instructions_decoded", &VcpuCounters::instructions_decoded},
    {"semantic_calls", &VcpuCounters::semantic_calls},
    {"block_lookups", &VcpuCounters::block_lookups},
    {"tlb_misses", &VcpuCounters::tlb_misses},
    {"exceptions", &VcpuCounters::exceptions},
    {"page_faults", &VcpuCounters::page_faults},
    {"interrupts", &VcpuCounters::interrupts},
    {"halts", &VcpuCounters::halts},
}};
static_assert(sizeof(VcpuCounters) == kVcpuCounterNames.size() * sizeof(std::uint64_t));

}  // namespace sm
