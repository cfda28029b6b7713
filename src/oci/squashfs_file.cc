// File access for libsquashfs.
#include "oci/squashfs_file.h"

#include <sqfs/error.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace sm {
namespace {

// Looking at the free space costs a system call; often enough is every 16 MiB.
constexpr std::uint64_t kCheckInterval = 16U << 20U;

}  // namespace

SquashfsFile::SquashfsFile(int fd, std::uint64_t keep_free) : fd_(fd), keep_free_(keep_free) {
  face_.base.base.destroy = [](sqfs_object_t*) {};
  face_.base.base.copy = nullptr;
  face_.base.read_at = &SquashfsFile::read_at;
  face_.base.write_at = &SquashfsFile::write_at;
  face_.base.get_size = &SquashfsFile::get_size;
  face_.base.truncate = &SquashfsFile::truncate;
  face_.self = this;
}

// SAFETY: the library only ever hands back the pointer from handle(), the first member of a Face.
SquashfsFile& SquashfsFile::self_of(sqfs_file_t* file) {
  return *reinterpret_cast<Face*>(file)->self;
}
const SquashfsFile& SquashfsFile::self_of(const sqfs_file_t* file) {
  return *reinterpret_cast<const Face*>(file)->self;
}

int SquashfsFile::read_at(sqfs_file_t* file, sqfs_u64 offset, void* buffer, std::size_t size) {
  auto& self = self_of(file);
  auto* to = static_cast<char*>(buffer);
  while (size > 0) {
    const auto got = ::pread(self.fd_, to, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      self.last_errno_ = errno;
      return SQFS_ERROR_IO;
    }
    if (got == 0) return SQFS_ERROR_OUT_OF_BOUNDS;
    const auto count = static_cast<std::size_t>(got);
    to += count;
    size -= count;
    offset += count;
  }
  return 0;
}

int SquashfsFile::check_space(std::uint64_t bytes) {
  if (until_check_ >= bytes) {
    until_check_ -= bytes;
    return 0;
  }
  struct statvfs space {};
  if (::fstatvfs(fd_, &space) != 0) return errno;
  // Memory files have no size of their own and report none.
  if (space.f_blocks == 0) {
    until_check_ = kCheckInterval;
    return 0;
  }
  const auto free_bytes = static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
  if (free_bytes < keep_free_ + bytes) return ENOSPC;
  until_check_ = std::min<std::uint64_t>(kCheckInterval, free_bytes - keep_free_ - bytes);
  return 0;
}

int SquashfsFile::write_at(sqfs_file_t* file, sqfs_u64 offset, const void* buffer,
                           std::size_t size) {
  auto& self = self_of(file);
  if (const int error = self.check_space(size); error != 0) {
    self.last_errno_ = error;
    return SQFS_ERROR_IO;
  }
  const auto* from = static_cast<const char*>(buffer);
  while (size > 0) {
    const auto put = ::pwrite(self.fd_, from, size, static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) {
      self.last_errno_ = put < 0 ? errno : EIO;
      return SQFS_ERROR_IO;
    }
    const auto count = static_cast<std::size_t>(put);
    from += count;
    size -= count;
    offset += count;
  }
  self.size_ = std::max<std::uint64_t>(self.size_, offset);
  return 0;
}

sqfs_u64 SquashfsFile::get_size(const sqfs_file_t* file) { return self_of(file).size_; }

int SquashfsFile::truncate(sqfs_file_t* file, sqfs_u64 size) {
  auto& self = self_of(file);
  if (::ftruncate(self.fd_, static_cast<off_t>(size)) != 0) {
    self.last_errno_ = errno;
    return SQFS_ERROR_IO;
  }
  self.size_ = size;
  return 0;
}

}  // namespace sm
