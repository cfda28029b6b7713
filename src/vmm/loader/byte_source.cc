#include "vmm/loader/byte_source.h"

#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "base/file.h"

namespace sm {

namespace {

tl::unexpected<Error> ends_early(std::uint64_t offset, std::uint64_t length, std::uint64_t size) {
  return fail(Code::kCorrupt, "the file ends early: " + std::to_string(length) +
                                  " bytes wanted at offset " + std::to_string(offset) + " of " +
                                  std::to_string(size));
}

// preadv until all of `parts` is filled.
Status read_fully(int fd, std::vector<iovec> parts, std::uint64_t offset) {
  std::size_t first = 0;
  while (first < parts.size()) {
    if (parts[first].iov_len == 0) {
      ++first;
      continue;
    }
    const ssize_t n = ::preadv(fd, &parts[first], static_cast<int>(parts.size() - first),
                               static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno("read", errno);
    // The file shrank after its size was taken.
    if (n == 0) return fail(Code::kCorrupt, "the file ended while it was read");
    auto left = static_cast<std::size_t>(n);
    offset += left;
    while (left > 0) {
      iovec& part = parts[first];
      const std::size_t step = left < part.iov_len ? left : part.iov_len;
      part.iov_base = static_cast<std::byte*>(part.iov_base) + step;
      part.iov_len -= step;
      left -= step;
      if (part.iov_len == 0) ++first;
    }
  }
  return {};
}

}  // namespace

Result<FileSource> FileSource::open(int fd) { return FileSource(fd, SM_TRY(file_size(fd))); }

Status FileSource::read(std::uint64_t offset, std::span<std::byte> out) const {
  if (!fits(offset, out.size(), size_)) return ends_early(offset, out.size(), size_);
  return read_fully(fd_, {iovec{out.data(), out.size()}}, offset);
}

Status FileSource::read_to_guest(std::uint64_t offset, std::uint64_t length, GuestMemory& memory,
                                 GuestPhysAddr to) const {
  if (!fits(offset, length, size_)) return ends_early(offset, length, size_);
  std::vector<iovec> parts;
  SM_TRY_STATUS(memory.append_writable_iovecs(to, length, parts));
  return read_fully(fd_, std::move(parts), offset);
}

Status SpanSource::read(std::uint64_t offset, std::span<std::byte> out) const {
  if (!fits(offset, out.size(), bytes_.size())) {
    return ends_early(offset, out.size(), bytes_.size());
  }
  if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
  return {};
}

Status SpanSource::read_to_guest(std::uint64_t offset, std::uint64_t length, GuestMemory& memory,
                                 GuestPhysAddr to) const {
  if (!fits(offset, length, bytes_.size())) return ends_early(offset, length, bytes_.size());
  return memory.write(to, bytes_.subspan(offset, length));
}

}  // namespace sm
