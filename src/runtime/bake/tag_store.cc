#include "runtime/bake/tag_store.h"

#include "base/file.h"
#include "oci/locked_file.h"
#include "oci/text.h"
#include "runtime/vm_dir.h"
#include "vmm/snapshot/snapshot_dir.h"
#include "vmm/snapshot/snapshot_files.h"

namespace sm {

namespace {

// What SnapshotCache calls its own.
bool is_fingerprint(const std::string& name) {
  return name.size() == 64 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace

Result<TagStore> TagStore::open(const std::string& cache_dir) {
  std::string dir = cache_dir + "/tags";
  SM_TRY_STATUS(make_dirs(dir, 0700));
  return TagStore(std::move(dir));
}

Status TagStore::check(const std::string& tag) {
  // The next writer would take such a one for what a crash has left.
  if (is_fingerprint(tag)) {
    return fail(Code::kInvalidArgument, "a tag cannot look like the names that `run` gives",
                "use less than 64 characters, or others than 0-9 and a-f");
  }
  if (check_name(tag) && !snapshot_files::is_temporary(tag)) return {};
  return fail(Code::kInvalidArgument, "'" + printable(tag) + "' cannot be a tag",
              "use up to 128 letters, digits, '_', '.' and '-', beginning with a letter or digit");
}

bool TagStore::has(const std::string& tag) const { return check(tag) && has_snapshot(path(tag)); }

std::vector<SnapshotCache::Entry> TagStore::entries() const {
  auto cache = SnapshotCache::open(dir_);
  return cache ? cache->entries() : std::vector<SnapshotCache::Entry>();
}

std::optional<TagStore::Same> TagStore::find_same(const std::string& inputs,
                                                  const std::string& preferred) const {
  std::optional<Same> out;
  for (const auto& entry : entries()) {
    const auto manifest = probe_snapshot(entry.path);
    if (!manifest) continue;
    const auto key = manifest->annotations.find(kBakeKey);
    if (key == manifest->annotations.end() || key->second != inputs) continue;
    out = Same{entry.name, manifest->memory_digest};
    if (entry.name == preferred) break;
  }
  return out;
}

Status TagStore::link(const Same& from, const std::string& to) const {
  const auto lock = SM_TRY(lock_file(dir_ + ".lock", LockKind::kExclusive));
  return link_snapshot(path(from.tag), from.memory_digest, path(to));
}

Result<std::string> find_saved(const TagStore& tags, const std::string& word) {
  if (word.find('/') != std::string::npos) return word;
  if (tags.has(word)) return tags.path(word);
  return fail(Code::kNotFound, "there is no snapshot with the tag " + printable(word),
              "see `supermachine snapshot ls`; a folder has a slash in its name");
}

}  // namespace sm
