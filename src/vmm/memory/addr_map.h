// The guest-physical layout as one table. See docs/reference/memory-map.md.
#pragma once

#include <cstdint>

#include "vmm/memory/guest_addr.h"

namespace sm::addr_map {

inline constexpr std::uint64_t kPageSize = 4096;

// RAM is [0, min(size, kLowRamEnd)) and, when larger, [kHighRamStart, ...).
inline constexpr std::uint64_t kLowRamEnd = 0xD000'0000;
inline constexpr std::uint64_t kHighRamStart = 0x1'0000'0000;

// virtio-mmio slot n is one page at kVirtioMmioBase + n * kVirtioMmioSize.
inline constexpr std::uint64_t kVirtioMmioBase = 0xD000'0000;
inline constexpr std::uint64_t kVirtioMmioSize = 0x1000;
inline constexpr std::uint32_t kMaxVirtioSlots = 64;

inline constexpr std::uint64_t kIoApicBase = 0xFEC0'0000;
inline constexpr std::uint64_t kLapicBase = 0xFEE0'0000;
// Three pages that KVM on Intel hosts needs for real mode; never RAM.
inline constexpr std::uint64_t kKvmTssBase = 0xFEFF'C000;
inline constexpr std::uint64_t kKvmIdentityMapBase = 0xFEFF'B000;

// Below 1 MiB.
inline constexpr std::uint64_t kGdtStart = 0x500;
inline constexpr std::uint64_t kBootParams = 0x7000;
inline constexpr std::uint64_t kBootStackTop = 0x8FF0;
inline constexpr std::uint64_t kBootPageTables = 0x9000;  // PML4, then PDPT, then PDs
inline constexpr std::uint64_t kCommandLine = 0x2'0000;
inline constexpr std::uint64_t kCommandLineMax = 2048;  // x86 COMMAND_LINE_SIZE, with the final NUL
inline constexpr std::uint64_t kMpTable = 0x9'FC00;     // in the last KiB of base memory
inline constexpr std::uint64_t kLowRamUsableEnd = 0x9'FC00;
inline constexpr std::uint64_t kHighMemoryStart = 0x10'0000;

// Interrupts (IOAPIC pins = GSIs).
inline constexpr std::uint32_t kUartGsi = 4;
inline constexpr std::uint32_t kFirstVirtioGsi = 5;
inline constexpr std::uint32_t kLastVirtioGsi = 23;

// I/O ports.
inline constexpr std::uint16_t kUartPort = 0x3F8;
inline constexpr std::uint16_t kI8042DataPort = 0x60;
inline constexpr std::uint16_t kI8042CommandPort = 0x64;
inline constexpr std::uint16_t kDoorbellPort = 0x5350;
inline constexpr std::uint16_t kDoorbellSize = 16;

// The pins 5..23 go round when there are more devices than pins.
constexpr std::uint32_t virtio_gsi(std::uint32_t slot) {
  return kFirstVirtioGsi + slot % (kLastVirtioGsi - kFirstVirtioGsi + 1);
}
constexpr GuestPhysAddr virtio_base(std::uint32_t slot) {
  return GuestPhysAddr(kVirtioMmioBase + slot * kVirtioMmioSize);
}

}  // namespace sm::addr_map
