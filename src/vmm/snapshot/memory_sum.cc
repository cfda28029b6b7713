#include "vmm/snapshot/memory_sum.h"

#include <algorithm>
#include <bit>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/crc32c.h"
#include "vmm/snapshot/manifest.h"

namespace sm {
namespace {

constexpr std::string_view kMagic("SMMEMSUM", 8);
constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kDiffFlag = 1;
constexpr std::size_t kHeaderBytes = 48;
constexpr std::size_t kRangeBytes = 16;
constexpr std::size_t kChunkBytes = 12;

tl::unexpected<Error> corrupt(const std::string& cause) {
  return fail(Code::kCorrupt, "memory checksums: " + cause, "bake again");
}

std::uint64_t chunk_count(std::uint64_t memory_bytes) {
  return memory_bytes / kSumChunkBytes + (memory_bytes % kSumChunkBytes != 0 ? 1 : 0);
}
// At least one page lies between two ranges.
std::uint64_t max_ranges(std::uint64_t memory_bytes) { return (memory_bytes / kPageBytes + 1) / 2; }

struct Header {
  std::uint64_t ranges = 0;
  std::uint64_t chunks = 0;
  std::uint32_t flags = 0;
  std::uint32_t crc = 0;
  MemorySum sum;
};

Result<Header> read_header(ByteReader& in) {
  const auto magic = in.take_bytes(kMagic.size());
  const auto version = in.take<std::uint32_t>();
  Header h;
  h.sum.manifest_crc = in.take<std::uint32_t>().value_or(0);
  h.sum.memory_bytes = in.take<std::uint64_t>().value_or(0);
  h.ranges = in.take<std::uint64_t>().value_or(0);
  h.chunks = in.take<std::uint64_t>().value_or(0);
  h.flags = in.take<std::uint32_t>().value_or(0);
  h.crc = in.take<std::uint32_t>().value_or(0);
  if (in.failed()) return corrupt("the file ends within its header");
  if (as_text(*magic) != kMagic) return corrupt("the file does not begin like one");
  if (*version == kVersion) return h;
  return fail(Code::kUnsupported,
              "memory checksums: the file has version " + std::to_string(*version) +
                  ", this program reads version " + std::to_string(kVersion),
              "bake again, or use the version that wrote the snapshot");
}

Status check_header(const Header& h, std::size_t file_bytes, std::uint64_t memory_bytes) {
  if (h.sum.memory_bytes != memory_bytes) {
    return corrupt("they are of " + std::to_string(h.sum.memory_bytes) + " bytes of memory, not " +
                   std::to_string(memory_bytes));
  }
  if ((h.flags & ~kDiffFlag) != 0 || (h.flags == 0 && h.ranges != 0)) {
    return corrupt("the header contradicts itself");
  }
  if (h.ranges > max_ranges(memory_bytes) || h.chunks > chunk_count(memory_bytes)) {
    return corrupt("there are more than the memory has pages");
  }
  const std::uint64_t expected = kHeaderBytes + kRangeBytes * h.ranges + kChunkBytes * h.chunks;
  if (file_bytes == expected) return {};
  return corrupt("the file has " + std::to_string(file_bytes) + " bytes instead of " +
                 std::to_string(expected));
}

Status read_chunks(ByteReader& in, std::uint64_t count, MemorySum& sum) {
  sum.chunks.reserve(static_cast<std::size_t>(count));
  const std::uint64_t pages = sum.memory_bytes / kPageBytes;
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto chunk = in.take<std::uint32_t>().value_or(0);
    const auto bits = in.take<std::uint32_t>().value_or(0);
    const auto crc = in.take<std::uint32_t>().value_or(0);
    if (bits == 0 || bits >> kSumChunkPages != 0) return corrupt("a chunk has impossible pages");
    const auto last = std::uint64_t{chunk} * kSumChunkPages + std::bit_width(bits) - 1;
    if (last >= pages) return corrupt("a chunk lies behind the memory");
    if (!sum.chunks.empty() && sum.chunks.back().chunk >= chunk) {
      return corrupt("the chunks are out of order");
    }
    sum.chunks.push_back({chunk, static_cast<std::uint16_t>(bits), crc});
  }
  return {};
}

}  // namespace

Status check_pages(const MemorySum& sum) {
  if (!sum.own_pages) return {};
  const auto wrong = [](const std::string& why) {
    return fail(Code::kInvalidArgument, "pages of a diff: " + why);
  };
  const std::uint64_t pages = sum.memory_bytes / kPageBytes;
  std::uint64_t end = 0;  // of the range before
  for (const PageRange& range : *sum.own_pages) {
    const bool first = &range == sum.own_pages->data();
    if (range.count == 0 || (!first && range.first <= end) ||
        !fits(range.first, range.count, pages)) {
      return wrong("the range at " + std::to_string(range.first) + " is out of order or memory");
    }
    end = range.first + range.count;
  }
  auto range = sum.own_pages->begin();
  for (const ChunkSum& chunk : sum.chunks) {
    for (std::uint64_t bit = 0; bit < kSumChunkPages; ++bit) {
      if ((chunk.pages >> bit & 1) == 0) continue;
      const std::uint64_t page = std::uint64_t{chunk.chunk} * kSumChunkPages + bit;
      while (range != sum.own_pages->end() && range->first + range->count <= page) ++range;
      if (range == sum.own_pages->end() || range->first > page) {
        return wrong("page " + std::to_string(page) + " has data and is not among them");
      }
    }
  }
  return {};
}

std::vector<std::byte> encode_memory_sum(const MemorySum& sum) {
  ByteWriter body;
  if (sum.own_pages) {
    for (const PageRange& range : *sum.own_pages) {
      body.put(range.first);
      body.put(range.count);
    }
  }
  for (const ChunkSum& chunk : sum.chunks) {
    body.put(chunk.chunk);
    body.put(std::uint32_t{chunk.pages});
    body.put(chunk.crc);
  }
  ByteWriter out;
  out.put_bytes(as_byte_span(kMagic));
  out.put(kVersion);
  out.put(sum.manifest_crc);
  out.put(sum.memory_bytes);
  out.put(std::uint64_t{sum.own_pages ? sum.own_pages->size() : 0});
  out.put(std::uint64_t{sum.chunks.size()});
  out.put(sum.own_pages ? kDiffFlag : 0);
  out.put(crc32c(body.bytes(), crc32c(out.bytes())));
  out.put_bytes(body.bytes());
  return out.release();
}

Result<MemorySum> decode_memory_sum(std::span<const std::byte> bytes, std::uint64_t memory_bytes) {
  if (memory_bytes > kMaxSnapshotMemory) {
    return fail(Code::kLimit, "memory checksums: of " + std::to_string(memory_bytes) +
                                  " bytes, the limit is " + std::to_string(kMaxSnapshotMemory));
  }
  ByteReader in(bytes);
  Header header = SM_TRY(read_header(in));
  SM_TRY_STATUS(check_header(header, bytes.size(), memory_bytes));
  if (crc32c(in.rest(), crc32c(bytes.first(kHeaderBytes - 4))) != header.crc) {
    return corrupt("the file is damaged");
  }
  MemorySum& sum = header.sum;
  if (header.flags != 0) {
    auto& ranges = sum.own_pages.emplace();
    ranges.reserve(static_cast<std::size_t>(header.ranges));
    for (std::uint64_t i = 0; i < header.ranges; ++i) {
      const auto first = in.take<std::uint64_t>().value_or(0);
      const auto count = in.take<std::uint64_t>().value_or(0);
      ranges.push_back({first, count});
    }
  }
  SM_TRY_STATUS(read_chunks(in, header.chunks, sum));
  if (auto status = check_pages(sum); !status) return corrupt(status.error().cause());
  return std::move(sum);
}

std::uint64_t max_memory_sum_bytes(std::uint64_t memory_bytes) {
  return kHeaderBytes + kRangeBytes * max_ranges(memory_bytes) +
         kChunkBytes * chunk_count(memory_bytes);
}

Status compare_sums(std::span<const ChunkSum> expected, std::span<const ChunkSum> found) {
  const auto [e, f] = std::mismatch(expected.begin(), expected.end(), found.begin(), found.end());
  if (e == expected.end() && f == found.end()) return {};
  std::uint64_t chunk = kMaxSnapshotMemory / kSumChunkBytes;
  if (e != expected.end()) chunk = std::min<std::uint64_t>(chunk, e->chunk);
  if (f != found.end()) chunk = std::min<std::uint64_t>(chunk, f->chunk);
  return fail(Code::kCorrupt,
              "memory image: it was altered in the 64 KiB at offset " +
                  std::to_string(chunk * kSumChunkBytes),
              "bake again");
}

}  // namespace sm
