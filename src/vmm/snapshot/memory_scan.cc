// sum_memory: the checksums of what a sparse file holds.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/crc32c.h"
#include "vmm/snapshot/memory_sum.h"

namespace sm {
namespace {

// One read. Fits the second-level cache, so that the sum does not wait for memory.
constexpr std::uint64_t kReadBytes = 256u << 10;

bool is_zero(std::span<const std::byte> page) {
  static constexpr std::array<std::byte, kPageBytes> kZeros{};
  return std::memcmp(page.data(), kZeros.data(), page.size()) == 0;
}

class Scan {
 public:
  Scan(int fd, std::uint64_t bytes) : fd_(fd), bytes_(bytes), buffer_(kReadBytes) {}

  Result<std::vector<ChunkSum>> run() {
    // Only advice: without it the result is the same.
    static_cast<void>(::posix_fadvise(fd_, 0, 0, POSIX_FADV_SEQUENTIAL));
    std::uint64_t at = 0;
    while (at < bytes_) {
      const std::uint64_t start = SM_TRY(seek(at, SEEK_DATA));
      if (start >= bytes_) break;
      const std::uint64_t end = SM_TRY(seek(start, SEEK_HOLE));
      // Blocks may be smaller than pages; a page with some data counts as a whole.
      at = std::max(at, start / kPageBytes * kPageBytes);
      const std::uint64_t stop = std::min(bytes_, (end + kPageBytes - 1) / kPageBytes * kPageBytes);
      while (at < stop) at += SM_TRY(read_some(at, stop));
    }
    // The descriptor may be mapped as guest memory afterwards, which is not read in order.
    static_cast<void>(::posix_fadvise(fd_, 0, 0, POSIX_FADV_NORMAL));
    return std::move(sums_);
  }

 private:
  // Where the next data or hole begins; the end of memory when there is none.
  Result<std::uint64_t> seek(std::uint64_t from, int whence) const {
    const off_t found = ::lseek(fd_, static_cast<off_t>(from), whence);
    if (found >= 0) return std::min(static_cast<std::uint64_t>(found), bytes_);
    if (errno == ENXIO) return bytes_;
    return fail_errno("find the data of the memory image", errno);
  }

  Result<std::uint64_t> read_some(std::uint64_t at, std::uint64_t stop) {
    const auto want = static_cast<std::size_t>(std::min(kReadBytes, stop - at));
    std::size_t have = 0;
    while (have < want) {
      const ssize_t n =
          ::pread(fd_, buffer_.data() + have, want - have, static_cast<off_t>(at + have));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail_errno("read the memory image", errno);
      if (n == 0) return fail(Code::kGone, "the memory image became shorter while it was read");
      have += static_cast<std::size_t>(n);
    }
    const std::span<const std::byte> data(buffer_.data(), want);
    for (std::size_t i = 0; i < want; i += kPageBytes) add(at + i, data.subspan(i, kPageBytes));
    return want;
  }

  void add(std::uint64_t at, std::span<const std::byte> page) {
    if (is_zero(page)) return;
    const auto chunk = static_cast<std::uint32_t>(at / kSumChunkBytes);
    if (sums_.empty() || sums_.back().chunk != chunk) sums_.push_back({chunk, 0, 0});
    ChunkSum& sum = sums_.back();
    sum.pages = static_cast<std::uint16_t>(sum.pages | 1u << (at % kSumChunkBytes / kPageBytes));
    sum.crc = crc32c(page, sum.crc);
  }

  const int fd_;
  const std::uint64_t bytes_;
  std::vector<std::byte> buffer_;
  std::vector<ChunkSum> sums_;
};

}  // namespace

Result<std::vector<ChunkSum>> sum_memory(int fd, std::uint64_t memory_bytes) {
  return Scan(fd, memory_bytes).run();
}

}  // namespace sm
