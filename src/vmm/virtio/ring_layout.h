// The three rings of a split virtqueue as they lie in guest memory. Little-endian.
// Spec: virtio 1.2, 2.7.5 to 2.7.8. (linux/virtio_ring.h cannot be used from C++.)
#pragma once

#include <cstdint>

namespace sm::ring {

struct Descriptor {
  std::uint64_t address;
  std::uint32_t length;
  std::uint16_t flags;
  std::uint16_t next;
};
static_assert(sizeof(Descriptor) == 16);

inline constexpr std::uint16_t kNext = 1;
inline constexpr std::uint16_t kWrite = 2;
inline constexpr std::uint16_t kIndirect = 4;

struct UsedElement {
  std::uint32_t id;
  std::uint32_t length;
};
static_assert(sizeof(UsedElement) == 8);

// Available ring: flags, index, entries[n], used_event.
inline constexpr std::uint64_t kAvailFlags = 0;
inline constexpr std::uint64_t kAvailIndex = 2;
inline constexpr std::uint64_t kAvailEntries = 4;
inline constexpr std::uint16_t kNoInterrupt = 1;
constexpr std::uint64_t avail_entry(std::uint64_t slot) { return kAvailEntries + 2 * slot; }
constexpr std::uint64_t used_event(std::uint64_t n) { return avail_entry(n); }

// Used ring: flags, index, elements[n], avail_event.
inline constexpr std::uint64_t kUsedIndex = 2;
inline constexpr std::uint64_t kUsedElements = 4;
constexpr std::uint64_t used_element(std::uint64_t slot) {
  return kUsedElements + sizeof(UsedElement) * slot;
}
constexpr std::uint64_t avail_event(std::uint64_t n) { return used_element(n); }

// Whole sizes. The event words always belong to the rings.
constexpr std::uint64_t descriptors_bytes(std::uint64_t n) { return sizeof(Descriptor) * n; }
constexpr std::uint64_t avail_bytes(std::uint64_t n) { return used_event(n) + 2; }
constexpr std::uint64_t used_bytes(std::uint64_t n) { return avail_event(n) + 2; }

}  // namespace sm::ring
