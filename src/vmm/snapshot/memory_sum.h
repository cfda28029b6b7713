// memory.sum: what memory.img must contain, as checksums of the pages that are not zero; for a
// diff, also which pages are its own. Holes and zero pages are the same thing here, so a snapshot
// survives being copied to another file system. See docs/reference/snapshot-format.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "vmm/memory/page_range.h"

namespace sm {

inline constexpr std::uint64_t kPageBytes = 4096;
inline constexpr std::uint64_t kSumChunkPages = 16;
inline constexpr std::uint64_t kSumChunkBytes = kSumChunkPages * kPageBytes;

// 64 KiB of memory in which something is not zero.
struct ChunkSum {
  std::uint32_t chunk = 0;  // memory offset / kSumChunkBytes
  std::uint16_t pages = 0;  // bit n: page n of the chunk is not all zero
  std::uint32_t crc = 0;    // CRC-32C of those pages, one after the other
  bool operator==(const ChunkSum&) const = default;
};

struct MemorySum {
  std::uint64_t memory_bytes = 0;
  std::uint32_t manifest_crc = 0;  // CRC-32C of manifest.json: the files belong together
  std::optional<std::vector<PageRange>> own_pages;  // of a diff: ascending, not touching
  std::vector<ChunkSum> chunks;                     // ascending
  bool operator==(const MemorySum&) const = default;
};

// kInvalidArgument unless the ranges ascend without touching and lie in memory, and every page of
// `chunks` lies in them.
Status check_pages(const MemorySum& sum);

std::vector<std::byte> encode_memory_sum(const MemorySum& sum);
// For an image of `memory_bytes`. kCorrupt, kLimit, kUnsupported for another version.
Result<MemorySum> decode_memory_sum(std::span<const std::byte> bytes, std::uint64_t memory_bytes);
// The largest file that can be sound for this much memory.
std::uint64_t max_memory_sum_bytes(std::uint64_t memory_bytes);

// Reads the data of an image of `memory_bytes`, each byte once, holes not at all. Uses neither the
// descriptor's offset nor any other state: any thread. kIo, kGone when the file is shorter.
Result<std::vector<ChunkSum>> sum_memory(int fd, std::uint64_t memory_bytes);

// kCorrupt naming the first difference.
Status compare_sums(std::span<const ChunkSum> expected, std::span<const ChunkSum> found);

}  // namespace sm
