// The block device's wire format: requests and configuration come from linux/virtio_blk.h, the
// limits we announce and enforce are here. Spec: virtio 1.2, 5.2.
#pragma once

#include <linux/virtio_blk.h>

#include <cstdint>

namespace sm::blk {

inline constexpr std::uint64_t kSectorBytes = 512;
inline constexpr std::uint64_t kMaxSectors = (1ull << 63) / kSectorBytes;  // off_t holds the bytes

inline constexpr std::uint16_t kQueueSize = 256;
// Header, segments and status are one chain.
inline constexpr std::uint32_t kMaxSegments = 126;
inline constexpr std::uint32_t kMaxSegmentBytes = 256 << 10;
// Limit: what a driver that obeys the two above can ask for. One request is one turn of the loop.
inline constexpr std::uint64_t kMaxDataBytes = std::uint64_t{kMaxSegments} * kMaxSegmentBytes;

inline constexpr std::uint32_t kMaxDiscardSectors = 1u << 22;  // 2 GiB: a hole costs no data
inline constexpr std::uint32_t kMaxDiscardRanges = 32;
// Limit: where the file system cannot zero by itself, so many are written.
inline constexpr std::uint32_t kMaxZeroSectors = 1u << 16;  // 32 MiB
inline constexpr std::uint32_t kMaxZeroRanges = 1;

inline constexpr std::size_t kSerialBytes = VIRTIO_BLK_ID_BYTES;

using Header = virtio_blk_outhdr;
using Range = virtio_blk_discard_write_zeroes;
using Config = virtio_blk_config;
static_assert(sizeof(Header) == 16 && sizeof(Range) == 16 && sizeof(Config) >= 60);

}  // namespace sm::blk
