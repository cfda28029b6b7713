// TagStore: the snapshots that a user has named, below the cache folder. They stay until they are
// removed. Several processes share it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/bake/snapshot_cache.h"

namespace sm {

class TagStore {
 public:
  // Makes `cache_dir`/tags (0700) when it is not there.
  static Result<TagStore> open(const std::string& cache_dir);
  // [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 128, and not 64 hexadecimal digits, which are a name of the
  // snapshots that `run` keeps: kInvalidArgument else.
  static Status check(const std::string& tag);

  // Where the snapshot of that name is or belongs.
  std::string path(const std::string& tag) const { return dir_ + "/" + tag; }
  bool has(const std::string& tag) const;
  std::vector<SnapshotCache::Entry> entries() const;
  struct Same {
    std::string tag;
    std::string memory_digest;
  };
  // A snapshot that was baked from the same inputs (annotation kBakeKey), `preferred` if it is one.
  // One that is damaged, as far as that shows without reading its memory, is passed over.
  std::optional<Same> find_same(const std::string& inputs, const std::string& preferred) const;
  // Gives that snapshot a second name: the files are the same, on disk once. What has the name is
  // replaced at once. kGone: the first tag leads to another one by now.
  Status link(const Same& from, const std::string& to) const;

 private:
  explicit TagStore(std::string dir) : dir_(std::move(dir)) {}
  std::string dir_;
};

inline constexpr const char* kBakeKey = "bake";

// A folder when there is a slash in the word, else a tag.
Result<std::string> find_saved(const TagStore& tags, const std::string& word);

}  // namespace sm
