// The memory that fuzzed instructions see: a few pages at fixed addresses in the low 2 GiB, reached
// by 32-bit addresses as well. The real CPU uses them in place; the model works on a copy of the
// writable ones and reads the others in place. Everything else below kUnknownFrom is unmapped;
// beyond lies the test program itself, where an instruction must not go.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace sm::cpu_fuzz {

inline constexpr std::uint64_t kPage = 4096;
inline constexpr std::uint64_t kSandbox = 0x20000000;

enum class PageKind : std::uint8_t { kHole, kWritable, kReadOnly, kCode };

inline constexpr std::array kLayout{
    PageKind::kHole, PageKind::kWritable, PageKind::kWritable, PageKind::kReadOnly,
    PageKind::kHole, PageKind::kWritable, PageKind::kHole,     PageKind::kCode,
};
inline constexpr std::uint64_t kSandboxEnd = kSandbox + kLayout.size() * kPage;
inline constexpr std::uint64_t kCode = kSandbox + 7 * kPage;
inline constexpr std::uint64_t kUnknownFrom = 0x400000000000;
inline constexpr std::uint64_t kUserEnd = 0x800000000000;

// Instructions stand in slots of the code page, the rest of which traps. The last 8 bytes hold the
// address where an instruction that has run goes.
inline constexpr std::uint64_t kSlotSize = 64;
inline constexpr std::uint64_t kSlots = kPage / kSlotSize - 1;
inline constexpr std::uint64_t kExitPointer = kCode + kPage - 8;

constexpr std::uint64_t slot_address(std::uint32_t slot) { return kCode + slot * kSlotSize; }

// The page of `address`, kHole outside of the sandbox.
constexpr PageKind kind_at(std::uint64_t address) {
  return address >= kSandbox && address < kSandboxEnd ? kLayout[(address - kSandbox) / kPage]
                                                      : PageKind::kHole;
}

}  // namespace sm::cpu_fuzz
