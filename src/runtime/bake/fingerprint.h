// Fingerprint: the name of a baked snapshot: the same text exactly when everything is the same that
// a guest has in its memory before its first command.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace sm {

struct BakeInputs {
  std::string kernel_digest, initramfs_digest;  // "sha256:..."
  std::vector<std::string> layers;  // the names of the layer files: they contain digests
  std::uint64_t memory_bytes = 0;
  std::uint32_t vcpus = 1;
  std::uint64_t root_disk_bytes = 0;  // its content is not in memory yet; 0: none
  std::string engine;
  std::string guest_config;  // JSON of the boot configuration
  // Of a machine that has no image yet: its empty disks, as many for layers, and whether there is
  // one for the root's changes. Then there are no layers and no size of a root disk.
  std::uint32_t layer_slots = 0;
  bool root_slot = false;
};

// 64 hex digits.
std::string fingerprint(const BakeInputs& inputs);

// The digest of a file, from a cache below `cache_dir` while the file is the very same one (device,
// inode, size and times). Several processes may share the cache.
Result<std::string> cached_digest(const std::string& path, const std::string& cache_dir);

}  // namespace sm
