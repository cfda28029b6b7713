// SnapshotCache: the snapshots that `run` bakes for itself, by fingerprint, below the cache folder.
// Several processes share it; what is used less is removed when it grows too large.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace sm {

class SnapshotCache {
 public:
  // Makes `dir` (0700) when it is not there.
  static Result<SnapshotCache> open(std::string dir);

  struct Entry {
    std::string name;  // the fingerprint
    std::string path;
    std::uint64_t bytes = 0;  // on disk
  };
  // What is there, the last used first.
  std::vector<Entry> entries() const;

  // Where the snapshot of that name is or belongs.
  std::string path(const std::string& fingerprint) const { return dir_ + "/" + fingerprint; }
  // True when it is there; it then counts as just used. Whether it is sound shows when it is
  // opened.
  bool find(const std::string& fingerprint) const;
  void remove(const std::string& fingerprint) const;
  // Makes room for one more: removes the longest unused ones beyond the limits.
  void make_room() const;

  static constexpr std::size_t kMaxSnapshots = 32;
  static constexpr std::uint64_t kMaxBytes = 8ull << 30;  // on disk

 private:
  explicit SnapshotCache(std::string dir) : dir_(std::move(dir)) {}

  std::string dir_;
};

}  // namespace sm
