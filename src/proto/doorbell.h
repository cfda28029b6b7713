// The doorbell: a guest's one private device. A 32-bit `out` to kPortEvent reports an event to the
// host at that very instruction. Shared by the VMM and the guest. See docs/reference/doorbell.md.
#pragma once

#include <cstdint>

namespace sm::doorbell {

inline constexpr std::uint16_t kPortBase = 0x5350;
inline constexpr std::uint16_t kPortCount = 16;
// Write, 32 bits: event id in bits 31..24, argument in bits 23..0.
// Read, 32 bits: the events at which this machine will be saved, bit N for the id N.
inline constexpr std::uint16_t kPortEvent = kPortBase + 0;
// Read, 32 bits: how many times this VM was restored from a snapshot.
inline constexpr std::uint16_t kPortGeneration = kPortBase + 4;
// Read, 32 bits: kMagic, so that a guest can tell whether a doorbell is there.
inline constexpr std::uint16_t kPortMagic = kPortBase + 8;
// Read, 32 bits: how many of the machine's disks have a file now; the others are empty.
inline constexpr std::uint16_t kPortBoundDisks = kPortBase + 12;
inline constexpr std::uint32_t kMagic = 0x31424453;  // "SDB1"

enum class Event : std::uint8_t {
  kBooted = 1,         // PID 1 runs its first instructions
  kAgentReady = 2,     // the agent listens
  kWorkloadStart = 3,  // the workload is about to be executed
  kWorkloadExit = 4,   // argument: exit status 0..255; the guest has nothing left to do
  kFatal = 5,          // argument: Fatal; the console holds the text
  kImageAwaited = 6,   // all is done that needs no image; the disks of one are awaited
};

enum class Fatal : std::uint8_t {
  kPseudoFilesystems = 1,
  kBootConfig = 2,
  kRootFilesystem = 3,
  kAgentStart = 4,
  kAgentDied = 5,
};

constexpr std::uint32_t encode(Event event, std::uint32_t argument) {
  return static_cast<std::uint32_t>(event) << 24 | (argument & 0xFF'FFFF);
}
constexpr std::uint8_t event_of(std::uint32_t word) {
  return static_cast<std::uint8_t>(word >> 24);
}
constexpr std::uint32_t argument_of(std::uint32_t word) { return word & 0xFF'FFFF; }

}  // namespace sm::doorbell
