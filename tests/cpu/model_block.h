// Runs one instruction as a block of its own, by the handler that the block engine chooses for it.
// Thread: one per process.
#pragma once

#include <cstdint>
#include <span>

#include "vmm/cpu/soft/cpu.h"

namespace sm::cpu_fuzz {

// `code` stands at Cpu::rip. False: aborted, Cpu::fault says why. Afterwards Cpu::rip is where
// execution goes on.
bool run_as_block(soft::Cpu& cpu, std::span<const std::uint8_t> code);

}  // namespace sm::cpu_fuzz
