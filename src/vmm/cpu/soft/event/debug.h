// Debug registers: access by MOV, and what the run loop asks about breakpoints. The loop delivers
// what is found with deliver_debug().
// Thread: the vCPU's own. Spec: SDM vol. 3, 17.2 and 17.3.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

// Bits of DR6: 0..3 say which breakpoint.
inline constexpr std::uint32_t kDebugAccess = 1u << 13, kDebugSingleStep = 1u << 14;
inline constexpr std::uint64_t kDr6Fixed = 0xFFFF0FF0, kDr7Fixed = 0x400;

// Any of DR0-DR3 is enabled: instructions have to run one at a time.
inline bool breakpoints_armed(const Cpu& cpu) { return (cpu.dr7 & 0xFF) != 0; }

// MOV from and to DR0-7 with DR4 and DR5 as names of DR6 and DR7. False: #UD, #GP or, under DR7.GD,
// #DB; the CPL has been checked by the caller.
bool read_debug(Cpu& cpu, std::uint32_t number, std::uint64_t& value);
bool write_debug(Cpu& cpu, std::uint32_t number, std::uint64_t value);

// Breakpoints hit, as bits of DR6; 0 = none. Before an instruction at `linear` runs (none while RF
// is set); after one that accessed `size` bytes of memory or ports.
std::uint32_t instruction_breakpoints(const Cpu& cpu, std::uint64_t linear);
std::uint32_t data_breakpoints(const Cpu& cpu, std::uint64_t linear, std::uint32_t size,
                               bool is_write);
std::uint32_t port_breakpoints(const Cpu& cpu, std::uint16_t port, std::uint32_t size);

}  // namespace sm::soft
