#include "runtime/bake/snapshot_cache.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "base/file.h"
#include "vmm/snapshot/snapshot_dir.h"
#include "vmm/snapshot/snapshot_files.h"

namespace sm {

namespace {

namespace fs = std::filesystem;

constexpr const char* kUsedMark = "/manifest.json";  // its time of last use is the snapshot's

struct Found {
  std::string name;
  timespec used{};
  std::uint64_t bytes = 0;
};

std::uint64_t bytes_on_disk(const fs::path& dir) {
  constexpr std::uint64_t kBlock = 512;
  std::uint64_t bytes = 0;
  std::error_code error;
  for (const auto& file : fs::directory_iterator(dir, error)) {
    struct stat info {};
    if (::lstat(file.path().c_str(), &info) == 0) {
      bytes += static_cast<std::uint64_t>(info.st_blocks) * kBlock;
    }
  }
  return bytes;
}

// Newest first.
std::vector<Found> list(const std::string& dir) {
  std::vector<Found> entries;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(dir, error)) {
    // A writer's folder: not complete yet, or never to be.
    if (snapshot_files::is_temporary(entry.path().filename().string())) continue;
    struct stat info {};
    if (::stat((entry.path().string() + kUsedMark).c_str(), &info) < 0) continue;
    entries.push_back({entry.path().filename(), info.st_atim, bytes_on_disk(entry.path())});
  }
  std::sort(entries.begin(), entries.end(), [](const Found& a, const Found& b) {
    return std::pair(a.used.tv_sec, a.used.tv_nsec) > std::pair(b.used.tv_sec, b.used.tv_nsec);
  });
  return entries;
}

}  // namespace

Result<SnapshotCache> SnapshotCache::open(std::string dir) {
  SM_TRY_STATUS(make_dirs(dir, 0700));
  return SnapshotCache(std::move(dir));
}

bool SnapshotCache::find(const std::string& fingerprint) const {
  // Only the time of last use: the other one belongs to the content.
  const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_NOW},
                             {.tv_sec = 0, .tv_nsec = UTIME_OMIT}};
  return ::utimensat(AT_FDCWD, (path(fingerprint) + kUsedMark).c_str(), times, 0) == 0;
}

void SnapshotCache::remove(const std::string& fingerprint) const {
  static_cast<void>(remove_snapshot(path(fingerprint)));
}

void SnapshotCache::make_room() const {
  std::size_t count = 0;
  std::uint64_t bytes = 0;
  for (const Found& entry : list(dir_)) {
    ++count;
    bytes += entry.bytes;
    if (count >= kMaxSnapshots || bytes > kMaxBytes) remove(entry.name);
  }
}

std::vector<SnapshotCache::Entry> SnapshotCache::entries() const {
  std::vector<Entry> out;
  for (const Found& found : list(dir_)) out.push_back({found.name, path(found.name), found.bytes});
  return out;
}

}  // namespace sm
