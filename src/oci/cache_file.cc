// Cache files on disk.
#include "oci/cache_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sqfs/super.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "base/log.h"
#include "oci/text.h"

namespace sm {
namespace {

constexpr std::string_view kPartialSuffix = ".partial";
constexpr std::uint64_t kPageSize = 4096;
static_assert(sizeof(sqfs_super_t) == 96, "the superblock as it lies on disk");

std::string final_path(const std::string& root, const std::string& key, bool hides) {
  return root + "/" + key + (hides ? ".opaque.squashfs" : ".squashfs");
}
std::string partial_path(const std::string& root, const std::string& key) {
  return root + "/" + key + std::string(kPartialSuffix);
}

// A whole image as we write them. Content was verified when it was written; this finds truncation
// and foreign files.
bool is_sound(const std::string& path) {
  auto fd = open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  struct stat info {};
  if (!fd || ::fstat(fd->get(), &info) != 0 || !S_ISREG(info.st_mode)) return false;
  const auto size = static_cast<std::uint64_t>(info.st_size);
  sqfs_super_t super{};
  if (::pread(fd->get(), &super, sizeof(super), 0) != sizeof(super)) return false;
  return super.magic == SQFS_MAGIC && super.compression_id == SQFS_COMP_ZSTD &&
         super.version_major == 4 && super.version_minor == 0 && super.bytes_used <= size &&
         size - super.bytes_used < kPageSize && size % kPageSize == 0 &&
         super.inode_table_start < super.bytes_used &&
         super.directory_table_start < super.bytes_used && super.id_table_start < super.bytes_used;
}

// True when `fd` is still what the path names.
bool is_same_file(int fd, const std::string& path) {
  struct stat held {};
  struct stat named {};
  return ::fstat(fd, &held) == 0 && ::lstat(path.c_str(), &named) == 0 &&
         held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

// Nothing tells when a lock of another process is free, so one asks again after a while. Ends early
// on a stop request.
void pause_for_lock(const std::stop_token& stop) {
  constexpr auto kInterval = std::chrono::milliseconds(25);
  std::mutex mutex;
  std::condition_variable_any nobody_signals;
  std::unique_lock lock(mutex);
  nobody_signals.wait_for(lock, stop, kInterval, [] { return false; });
}

}  // namespace

std::optional<CachedLayer> find_cached_layer(const std::string& root, const std::string& key) {
  for (const bool hides : {false, true}) {
    const auto path = final_path(root, key, hides);
    if (::access(path.c_str(), F_OK) != 0) continue;
    if (is_sound(path)) return CachedLayer{path, hides};
    ::unlink(path.c_str());
  }
  return std::nullopt;
}

Result<PartialFile> PartialFile::lock(const std::string& root, const std::string& key,
                                      const std::stop_token& stop) {
  const auto path = partial_path(root, key);
  while (!stop.stop_requested()) {
    auto fd = SM_TRY(open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR)
        return fail_errno("lock " + printable(path), errno);
      pause_for_lock(stop);
      continue;
    }
    // Whoever held it before may have renamed or removed it.
    if (!is_same_file(fd.get(), path)) continue;
    PartialFile file(std::move(fd), root, key);
    if (::ftruncate(file.fd(), 0) != 0) return fail_errno("truncate " + printable(path), errno);
    return file;
  }
  return fail(Code::kGone, "converting the image was cancelled");
}

PartialFile::~PartialFile() {
  if (fd_.valid()) ::unlink(partial_path(root_, key_).c_str());
}

Result<CachedLayer> PartialFile::commit(bool hides_lower_layers) {
  const auto from = partial_path(root_, key_);
  const auto to = final_path(root_, key_, hides_lower_layers);
  if (::fsync(fd_.get()) != 0) return fail_errno("write " + printable(from), errno);
  auto folder = SM_TRY(open_file(root_, O_RDONLY | O_DIRECTORY));
  if (::rename(from.c_str(), to.c_str()) != 0)
    return fail_errno("rename " + printable(from), errno);
  fd_.reset();
  if (::fsync(folder.get()) != 0) return fail_errno("write " + printable(root_), errno);
  return CachedLayer{to, hides_lower_layers};
}

void remove_stale_partials(const std::string& root) {
  struct CloseDir {
    void operator()(DIR* dir) const { ::closedir(dir); }
  };
  const std::unique_ptr<DIR, CloseDir> dir(::opendir(root.c_str()));
  if (!dir) return;
  while (const auto* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (!name.ends_with(kPartialSuffix)) continue;
    const auto path = root + "/" + name;
    auto fd = open_file(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
    if (!fd || ::flock(fd->get(), LOCK_EX | LOCK_NB) != 0) continue;
    if (is_same_file(fd->get(), path)) ::unlink(path.c_str());
  }
}

}  // namespace sm
