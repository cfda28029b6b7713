// SquashfsFile: libsquashfs' file interface over a descriptor of ours, which keeps errno and
// watches the free space. Calls may come from the writer's compression threads.
#pragma once

#include <sqfs/io.h>

#include <atomic>
#include <cstdint>

#include "base/result.h"

namespace sm {

class SquashfsFile {
 public:
  // The descriptor is borrowed.
  SquashfsFile(int fd, std::uint64_t keep_free);
  SquashfsFile(const SquashfsFile&) = delete;
  SquashfsFile& operator=(const SquashfsFile&) = delete;

  // For libsquashfs; valid as long as this object, and never destroyed by the library.
  sqfs_file_t* handle() { return &face_.base; }
  std::uint64_t size() const { return size_.load(); }
  // The host's reason for the last failed call, 0 when there was none.
  int last_errno() const { return last_errno_.load(); }

 private:
  // What the library sees: its interface struct, and the way back.
  struct Face {
    sqfs_file_t base;
    SquashfsFile* self;
  };
  static SquashfsFile& self_of(sqfs_file_t* file);
  static const SquashfsFile& self_of(const sqfs_file_t* file);
  static int read_at(sqfs_file_t* file, sqfs_u64 offset, void* buffer, std::size_t size);
  static int write_at(sqfs_file_t* file, sqfs_u64 offset, const void* buffer, std::size_t size);
  static sqfs_u64 get_size(const sqfs_file_t* file);
  static int truncate(sqfs_file_t* file, sqfs_u64 size);
  int check_space(std::uint64_t bytes);

  Face face_{};
  int fd_;
  std::uint64_t keep_free_;
  std::atomic<std::uint64_t> size_{0};
  std::atomic<int> last_errno_{0};
  std::uint64_t until_check_ = 0;  // bytes that may be written before the next look at the space
};

}  // namespace sm
