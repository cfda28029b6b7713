#include "base/sparse_copy.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <span>
#include <vector>

#include "base/file.h"

namespace sm {

namespace {

constexpr std::size_t kBlock = 4096;  // what is zero in this granularity stays a hole
constexpr std::size_t kBuffer = 64 * kBlock;

struct Range {
  off_t begin = 0;
  off_t end = 0;
};

bool is_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

Status write_at(int to, std::span<const std::byte> bytes, off_t at) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(to, bytes.data(), bytes.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno("write a copy", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    at += n;
  }
  return {};
}

// Runs of blocks that are not zero.
Status write_data(int to, std::span<const std::byte> bytes, off_t at) {
  while (!bytes.empty()) {
    std::size_t run = 0;
    while (run < bytes.size()) {
      const std::size_t size = std::min(kBlock, bytes.size() - run);
      if (is_zero(bytes.subspan(run, size))) break;
      run += size;
    }
    SM_TRY_STATUS(write_at(to, bytes.first(run), at));
    const std::size_t used = std::min(bytes.size(), run + kBlock);  // the zero block, too
    bytes = bytes.subspan(used);
    at += static_cast<off_t>(used);
  }
  return {};
}

Status copy_by_reading(int from, int to, Range range) {
  std::vector<std::byte> buffer(kBuffer);
  while (range.begin < range.end) {
    const auto wanted = std::min(kBuffer, static_cast<std::size_t>(range.end - range.begin));
    std::size_t got = 0;
    while (got < wanted) {
      const ssize_t n =
          ::pread(from, buffer.data() + got, wanted - got, range.begin + static_cast<off_t>(got));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail_errno("read for a copy", errno);
      if (n == 0) return fail(Code::kGone, "a file became shorter while it was copied");
      got += static_cast<std::size_t>(n);
    }
    SM_TRY_STATUS(write_data(to, std::span(buffer).first(wanted), range.begin));
    range.begin += static_cast<off_t>(wanted);
  }
  return {};
}

// In the kernel, as far as it can.
Status copy_range(int from, int to, Range range) {
  while (range.begin < range.end) {
    off_t in = range.begin, out = range.begin;
    const ssize_t n = ::copy_file_range(from, &in, to, &out,
                                        static_cast<std::size_t>(range.end - range.begin), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EIO)) {
      return fail_errno("write a copy", errno);
    }
    // Not between these file systems, or not there.
    if (n <= 0) return copy_by_reading(from, to, range);
    range.begin += n;
  }
  return {};
}

}  // namespace

Status copy_sparse(int from, int to, std::uint64_t bytes) {
  if (SM_TRY(file_size(from)) != bytes || SM_TRY(file_size(to)) != bytes) {
    return fail(Code::kInvalidArgument, "a file that is to be copied has another size");
  }
  if (bytes == 0 || ::ioctl(to, FICLONE, from) == 0) return {};
  const auto end = static_cast<off_t>(bytes);
  const off_t first_hole = ::lseek(from, 0, SEEK_HOLE);
  // A file system that does not tell its holes says that there are none: then zeros tell.
  if (first_hole < 0 || first_hole >= end) return copy_by_reading(from, to, {0, end});
  for (off_t at = 0; at < end;) {
    const off_t data = ::lseek(from, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    if (data < 0) return fail_errno("look for holes", errno);
    const off_t hole = ::lseek(from, data, SEEK_HOLE);
    if (hole < 0) return fail_errno("look for holes", errno);
    at = std::min(hole, end);
    SM_TRY_STATUS(copy_range(from, to, {data, at}));
  }
  return {};
}

}  // namespace sm
