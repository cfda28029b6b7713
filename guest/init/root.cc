#include "init/root.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/file.h"
#include "common/root_mounts.h"

namespace sm::guest {

namespace {

constexpr const char* kNewRoot = "/newroot";
constexpr const char* kLayers = "/layers";  // one folder per layer, named by its number
constexpr const char* kUpper = "/upper";    // a tmpfs

Status make_dir(const std::string& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) < 0) return fail_errno("mkdir " + path, errno);
  return {};
}

Status mount_at(const std::string& source, const std::string& path, const char* type,
                unsigned long flags, const std::string& options) {
  if (::mount(source.c_str(), path.c_str(), type, flags, options.c_str()) < 0) {
    return fail_errno(std::string("mount ") + type + " " + source + " on " + path, errno);
  }
  return {};
}

// An inode of tmpfs costs about a kilobyte of kernel memory, so the count is limited with the size:
// the kernel's default of one per two pages is too few for trees of small files.
std::string tmpfs_options(std::uint64_t bytes) {
  if (bytes == 0) {
    struct sysinfo info {};
    ::sysinfo(&info);
    bytes = static_cast<std::uint64_t>(info.totalram) * info.mem_unit / 2;
  }
  const std::uint64_t inodes = std::max<std::uint64_t>(bytes / 1024, 16384);
  return "mode=0755,size=" + std::to_string(bytes) + ",nr_inodes=" + std::to_string(inodes);
}

Status mount_layers(const std::vector<std::string>& disks) {
  for (std::size_t i = 0; i < disks.size(); ++i) {
    const std::string path = std::string(kLayers) + "/" + std::to_string(i);
    SM_TRY_STATUS(make_dir(path, 0700));
    SM_TRY_STATUS(mount_at(disks[i], path, "squashfs", MS_RDONLY, ""));
  }
  return {};
}

// The initramfs is memory that nobody can reach any more.
void free_initramfs() {
  for (const char* path : {"/init", "/agent", "/config.json"}) ::unlink(path);
}

}  // namespace

Status compose_root(const BootConfig& config, const std::vector<std::string>& disks) {
  SM_TRY_STATUS(make_dir(kNewRoot, 0755));
  SM_TRY_STATUS(make_dir(kLayers, 0700));
  const std::string options = tmpfs_options(config.upper_bytes);
  if (disks.empty()) return mount_at("tmpfs", kNewRoot, "tmpfs", 0, options);
  SM_TRY_STATUS(make_dir(kUpper, 0700));
  SM_TRY_STATUS(mount_at("tmpfs", kUpper, "tmpfs", 0, options));
  SM_TRY_STATUS(mount_layers(disks));
  if (::chdir(kLayers) < 0) return fail_errno("chdir to the layers", errno);
  SM_TRY_STATUS(prepare_upper(kUpper, disks.size()));
  SM_TRY_STATUS(mount_overlay(disks.size(), kUpper, kNewRoot));
  if (::chdir("/") < 0) return fail_errno("chdir /", errno);
  return {};
}

Result<UniqueFd> open_layers() { return open_file(kLayers, O_PATH | O_DIRECTORY); }

Status switch_root() {
  const UniqueFd root = SM_TRY(open_file(kNewRoot, O_PATH | O_DIRECTORY));
  SM_TRY_STATUS(take_views(root.get()));
  free_initramfs();
  return make_root(root.get());
}

}  // namespace sm::guest
