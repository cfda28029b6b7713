#include "runtime/bake/tag_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/file.h"
#include "oci/text.h"
#include "runtime/vm_dir.h"
#include "vmm/snapshot/snapshot_dir.h"
#include "vmm/snapshot/snapshot_files.h"

namespace sm {

namespace {

// memory.ok belongs to one inode and its times: the reader makes a new one.
constexpr std::array kFiles = {snapshot_files::kManifest, snapshot_files::kState,
                               snapshot_files::kMemory, snapshot_files::kMemorySum};

void discard(const std::string& folder) {
  for (const char* file : kFiles) ::unlink((folder + "/" + file).c_str());
  ::rmdir(folder.c_str());
}

}  // namespace

Result<TagStore> TagStore::open(const std::string& cache_dir) {
  std::string dir = cache_dir + "/tags";
  SM_TRY_STATUS(make_dirs(dir, 0700));
  return TagStore(std::move(dir));
}

Status TagStore::check(const std::string& tag) {
  // The next writer would take such a one for what a crash has left.
  if (check_name(tag) && !snapshot_files::is_temporary(tag)) return {};
  return fail(Code::kInvalidArgument, "'" + printable(tag) + "' cannot be a tag",
              "use up to 128 letters, digits, '_', '.' and '-', beginning with a letter or digit");
}

bool TagStore::has(const std::string& tag) const {
  return check(tag) && ::access((path(tag) + "/manifest.json").c_str(), F_OK) == 0;
}

std::vector<SnapshotCache::Entry> TagStore::entries() const {
  auto cache = SnapshotCache::open(dir_);
  return cache ? cache->entries() : std::vector<SnapshotCache::Entry>();
}

std::optional<std::string> TagStore::find_same(const std::string& inputs,
                                               const std::string& preferred) const {
  std::optional<std::string> out;
  for (const auto& entry : entries()) {
    const auto manifest = read_snapshot_manifest(entry.path);
    if (!manifest) continue;
    const auto key = manifest->annotations.find(kBakeKey);
    if (key == manifest->annotations.end() || key->second != inputs) continue;
    if (entry.name == preferred) return entry.name;
    out = entry.name;
  }
  return out;
}

Status TagStore::link(const std::string& from, const std::string& to) const {
  // The name of a writer's folder, so that the next writer removes what a crash leaves.
  const std::string folder = dir_ + "/" + SM_TRY(snapshot_files::temporary_name(to));
  if (::mkdir(folder.c_str(), 0700) < 0) return fail_errno("mkdir " + folder, errno);
  for (const char* file : kFiles) {
    if (::link((path(from) + "/" + file).c_str(), (folder + "/" + file).c_str()) < 0) {
      const int error = errno;
      discard(folder);
      return fail_errno("link " + path(from) + "/" + file, error);
    }
  }
  if (has(to)) {
    if (auto status = remove_snapshot(path(to)); !status) return discard(folder), status;
  }
  if (::rename(folder.c_str(), path(to).c_str()) == 0) return {};
  const int error = errno;
  discard(folder);
  return fail_errno("rename to " + path(to), error);
}

Result<std::string> find_saved(const TagStore& tags, const std::string& word) {
  if (word.find('/') != std::string::npos) return word;
  if (tags.has(word)) return tags.path(word);
  return fail(Code::kNotFound, "there is no snapshot with the tag " + printable(word),
              "see `supermachine snapshot ls`; a folder has a slash in its name");
}

}  // namespace sm
