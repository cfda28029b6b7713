// BlockBackend: where a disk's bytes are. FileBackend: a raw file or block device, opened by the
// caller. One thread at a time (the device's lock); calls block until the host has answered.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"

namespace sm {

enum class Access : std::uint8_t { kReadOnly, kReadWrite };
enum class Durability : std::uint8_t { kVolatile, kDurable };
enum class Unmap : std::uint8_t { kForbidden, kAllowed };

// Offsets and lengths are multiples of 512 inside [0, size()): the device has checked them.
// The iovecs given to read() and write() are used up.
class BlockBackend {
 public:
  virtual ~BlockBackend() = default;
  virtual std::uint64_t size() const = 0;  // bytes, a multiple of 512; constant
  virtual Access access() const = 0;       // constant
  virtual Status read(std::uint64_t offset, std::span<iovec> to) = 0;
  virtual Status write(std::uint64_t offset, std::span<iovec> from, Durability durability) = 0;
  virtual Status flush() = 0;
  // Frees the space of a range, whose content is undefined afterwards. A hint.
  virtual Status discard(std::uint64_t offset, std::uint64_t length) = 0;
  virtual Status write_zeroes(std::uint64_t offset, std::uint64_t length, Unmap unmap) = 0;
  // All of it into a file of size() bytes that is all holes; holes stay holes.
  virtual Status copy_to(int file) = 0;
};

class FileBackend final : public BlockBackend {
 public:
  // A read-only file may have any size: the disk is as long as the last sector that has bytes, and
  // what the file lacks of it reads as zeros. A writable file must be a multiple of 512 bytes.
  static Result<std::unique_ptr<FileBackend>> create(UniqueFd file, Access access);

  std::uint64_t size() const override { return size_; }
  Access access() const override { return access_; }
  Status read(std::uint64_t offset, std::span<iovec> to) override;
  Status write(std::uint64_t offset, std::span<iovec> from, Durability durability) override;
  Status flush() override;
  Status discard(std::uint64_t offset, std::uint64_t length) override;
  Status write_zeroes(std::uint64_t offset, std::uint64_t length, Unmap unmap) override;
  Status copy_to(int file) override;

 private:
  FileBackend(UniqueFd file, Access access, std::uint64_t file_bytes, std::uint64_t size)
      : file_(std::move(file)), access_(access), file_bytes_(file_bytes), size_(size) {}
  Status write_zero_bytes(std::uint64_t offset, std::uint64_t length);

  UniqueFd file_;
  Access access_;
  std::uint64_t file_bytes_;  // when it was opened
  std::uint64_t size_;        // file_bytes_ rounded up to sectors
};

}  // namespace sm
