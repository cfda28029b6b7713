// CpioWriter: an initramfs archive in memory (newc). Reproducible: the same calls give the same
// bytes. Spec: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace sm {

class CpioWriter {
 public:
  // `path` is relative without "." and ".." parts; `permissions` are the low 12 mode bits. Owner is
  // root, times are 0. Parents must have been added before, or exist in an earlier archive.
  Status add_directory(std::string_view path, std::uint32_t permissions);
  Status add_file(std::string_view path, std::uint32_t permissions,
                  std::span<const std::byte> content);

  // The finished archive, its length a multiple of 4. The writer is empty afterwards.
  std::vector<std::byte> finish();

 private:
  Status add(std::string_view path, std::uint32_t mode, std::span<const std::byte> content);
  void put_record(std::string_view name, std::uint32_t mode, std::span<const std::byte> content);

  ByteWriter out_;
  std::uint32_t next_inode_ = 1;
};

}  // namespace sm
