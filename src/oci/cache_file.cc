// Cache files on disk.
#include "oci/cache_file.h"

#include <fcntl.h>
#include <sqfs/super.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "base/log.h"
#include "oci/folder.h"
#include "oci/locked_file.h"
#include "oci/squashfs_compressor.h"
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
  return super.magic == SQFS_MAGIC && super.compression_id == kSquashfsCompressor &&
         super.version_major == 4 && super.version_minor == 0 && super.bytes_used <= size &&
         size - super.bytes_used < kPageSize && size % kPageSize == 0 &&
         super.inode_table_start < super.bytes_used &&
         super.directory_table_start < super.bytes_used && super.id_table_start < super.bytes_used;
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
  auto fd = SM_TRY(lock_file(path, LockKind::kExclusive, stop));
  PartialFile file(std::move(fd), root, key);
  if (::ftruncate(file.fd(), 0) != 0) return fail_errno("truncate " + printable(path), errno);
  return file;
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

std::vector<CacheFile> list_cache_files(const std::string& root) {
  std::vector<CacheFile> out;
  for (const auto& name : folder_names(root)) {
    for (const std::string_view suffix : {".opaque.squashfs", ".squashfs"}) {
      if (!name.ends_with(suffix)) continue;
      struct stat info {};
      auto path = root + "/" + name;
      if (::lstat(path.c_str(), &info) != 0) break;
      out.push_back({name.substr(0, name.size() - suffix.size()), std::move(path),
                     static_cast<std::uint64_t>(info.st_size)});
      break;
    }
  }
  return out;
}

bool remove_cache_file(const std::string& path) {
  const auto fd = open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!fd || !try_lock(fd->get(), LockKind::kExclusive)) return false;
  return ::unlink(path.c_str()) == 0;
}

void remove_stale_partials(const std::string& root) { remove_unlocked(root, kPartialSuffix); }

}  // namespace sm
