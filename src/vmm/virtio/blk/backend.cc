#include "vmm/virtio/blk/backend.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

#include "base/check.h"
#include "base/checked.h"
#include "base/file.h"
#include "base/sparse_copy.h"
#include "vmm/virtio/blk/wire.h"

namespace sm {

namespace {

template <class F>
auto retry(F&& f) {
  decltype(f()) r;
  do {
    r = f();
  } while (r < 0 && errno == EINTR);
  return r;
}

// Drops the first n bytes of a list of iovecs.
void advance(std::span<iovec>& iovecs, std::size_t n) {
  while (n != 0) {
    iovec& front = iovecs.front();
    const std::size_t step = std::min(n, front.iov_len);
    front.iov_base = static_cast<std::byte*>(front.iov_base) + step;
    front.iov_len -= step;
    n -= step;
    if (front.iov_len == 0) iovecs = iovecs.subspan(1);
  }
}

int batch_size(std::span<iovec> iovecs) {
  return static_cast<int>(std::min<std::size_t>(iovecs.size(), IOV_MAX));
}

// Moves all bytes of `iovecs` with calls of transfer(iovecs, count, offset), which says how many it
// moved; stops early when one moves nothing. Gives the number of bytes moved.
template <class F>
Result<std::uint64_t> transfer_all(const char* what, std::uint64_t offset, std::span<iovec>& iovecs,
                                   F&& transfer) {
  std::uint64_t moved = 0;
  while (!iovecs.empty()) {
    const ssize_t n = retry([&] {
      return transfer(iovecs.data(), batch_size(iovecs), static_cast<off_t>(offset + moved));
    });
    if (n < 0) return fail_errno(what, errno);
    if (n == 0) break;
    advance(iovecs, static_cast<std::size_t>(n));
    moved += static_cast<std::uint64_t>(n);
  }
  return moved;
}

}  // namespace

Result<std::unique_ptr<FileBackend>> FileBackend::create(UniqueFd file, Access access) {
  const std::uint64_t bytes = SM_TRY(file_size(file.get()));
  const auto size = align_up(bytes, blk::kSectorBytes);
  if (!size || *size / blk::kSectorBytes >= blk::kMaxSectors) {
    return fail(Code::kLimit, "disk of " + std::to_string(bytes) + " bytes is too large");
  }
  if (access == Access::kReadWrite && bytes != *size) {
    return fail(Code::kInvalidArgument,
                "writable disk of " + std::to_string(bytes) + " bytes is not whole sectors",
                "make its size a multiple of 512 bytes");
  }
  return std::unique_ptr<FileBackend>(new FileBackend(std::move(file), access, bytes, *size));
}

Status FileBackend::read(std::uint64_t offset, std::span<iovec> to) {
  const int fd = file_.get();
  const std::uint64_t moved =
      SM_TRY(transfer_all("read disk", offset, to, [fd](const iovec* v, int count, off_t at) {
        return ::preadv(fd, v, count, at);
      }));
  if (to.empty()) return {};
  // Only the end of the last sector may be missing; anything more means the file has shrunk.
  if (offset + moved < file_bytes_) return fail(Code::kIo, "disk file has become shorter");
  // Zeros may be written through the guest's pages: nothing is read from them.
  for (const iovec& rest : to) std::memset(rest.iov_base, 0, rest.iov_len);
  return {};
}

Status FileBackend::write(std::uint64_t offset, std::span<iovec> from, Durability durability) {
  const int fd = file_.get();
  const int flags = durability == Durability::kDurable ? RWF_DSYNC : 0;
  SM_TRY(transfer_all("write disk", offset, from, [&](const iovec* v, int count, off_t at) {
    return ::pwritev2(fd, v, count, at, flags);
  }));
  if (!from.empty()) return fail(Code::kIo, "disk file takes no more bytes");
  return {};
}

Status FileBackend::flush() {
  if (access_ == Access::kReadOnly) return {};
  if (retry([&] { return ::fdatasync(file_.get()); }) < 0) return fail_errno("flush disk", errno);
  return {};
}

Status FileBackend::discard(std::uint64_t offset, std::uint64_t length) {
  const int r = retry([&] {
    return ::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       static_cast<off_t>(offset), static_cast<off_t>(length));
  });
  // A file system without holes keeps the bytes, which is a valid way to discard them.
  if (r < 0 && errno != EOPNOTSUPP) return fail_errno("discard", errno);
  return {};
}

Status FileBackend::write_zeroes(std::uint64_t offset, std::uint64_t length, Unmap unmap) {
  const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  const int zero = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
  const int r = retry([&] {
    return ::fallocate(file_.get(), unmap == Unmap::kAllowed ? punch : zero,
                       static_cast<off_t>(offset), static_cast<off_t>(length));
  });
  if (r == 0) return {};
  if (errno != EOPNOTSUPP) return fail_errno("write zeroes", errno);
  return write_zero_bytes(offset, length);
}

Status FileBackend::copy_to(int file) { return copy_sparse(file_.get(), file, size_); }

Status FileBackend::write_zero_bytes(std::uint64_t offset, std::uint64_t length) {
  static constexpr std::array<std::byte, 65536> kZeros{};
  while (length != 0) {
    const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(length, kZeros.size()));
    const ssize_t done =
        retry([&] { return ::pwrite(file_.get(), kZeros.data(), n, static_cast<off_t>(offset)); });
    if (done <= 0) return fail_errno("write zeroes", done < 0 ? errno : EIO);
    offset += static_cast<std::uint64_t>(done);
    length -= static_cast<std::uint64_t>(done);
  }
  return {};
}

}  // namespace sm
