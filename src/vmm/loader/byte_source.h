// ByteSource: bytes of a known size that are copied into guest memory: a file or a buffer. The
// loader's only input, so that every limit is checked against a size before anything is read.
// One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "vmm/memory/guest_memory.h"

namespace sm {

class ByteSource {
 public:
  virtual ~ByteSource() = default;

  virtual std::uint64_t size() const = 0;
  // Exactly out.size() bytes from `offset`; kCorrupt when the source ends before.
  virtual Status read(std::uint64_t offset, std::span<std::byte> out) const = 0;
  // The same, straight to guest memory.
  virtual Status read_to_guest(std::uint64_t offset, std::uint64_t length, GuestMemory& memory,
                               GuestPhysAddr to) const = 0;

  template <class T>
  requires std::is_trivially_copyable_v<T> Result<T> read_object(std::uint64_t offset)
  const {
    T value;
    auto status = read(offset, std::as_writable_bytes(std::span(&value, 1)));
    if (!status) return fail(std::move(status).error());
    return value;
  }
};

// A regular file. The caller keeps the descriptor open; its file position is not used.
class FileSource final : public ByteSource {
 public:
  static Result<FileSource> open(int fd);

  std::uint64_t size() const override { return size_; }
  Status read(std::uint64_t offset, std::span<std::byte> out) const override;
  Status read_to_guest(std::uint64_t offset, std::uint64_t length, GuestMemory& memory,
                       GuestPhysAddr to) const override;

 private:
  FileSource(int fd, std::uint64_t size) : fd_(fd), size_(size) {}

  int fd_;
  std::uint64_t size_;
};

// A buffer that outlives the source.
class SpanSource final : public ByteSource {
 public:
  explicit SpanSource(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::uint64_t size() const override { return bytes_.size(); }
  Status read(std::uint64_t offset, std::span<std::byte> out) const override;
  Status read_to_guest(std::uint64_t offset, std::uint64_t length, GuestMemory& memory,
                       GuestPhysAddr to) const override;

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace sm
