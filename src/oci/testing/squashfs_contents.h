// Reads a squashfs image back, for tests: every path with all of its attributes.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace sm::testing {

struct SquashfsItem {
  std::uint32_t mode = 0;  // with the type bits of stat(2)
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t mtime = 0;
  std::uint32_t inode = 0;
  std::uint32_t links = 0;
  std::uint32_t device = 0;
  std::uint64_t size = 0;    // of files
  std::uint64_t sparse = 0;  // bytes of files that take no room
  std::string data;          // of files up to 8 MiB; the target of symbolic links
  std::map<std::string, std::string> xattrs;
};

// By path, "" being the root. Aborts on an image that cannot be read.
std::map<std::string, SquashfsItem> read_squashfs(const std::string& path);

}  // namespace sm::testing
