#include "init/root.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/file.h"

namespace sm::guest {

namespace {

constexpr const char* kNewRoot = "/newroot";
constexpr const char* kLayers = "/layers";  // one folder per layer, named by its number
constexpr const char* kUpper = "/upper";    // tmpfs with data/ and work/

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

// The merged root shows the upper folder's own attributes, so they are copied from the image. A
// layer without an entry for its root has the time 0 there and says nothing about it.
Status copy_root_attributes(std::size_t layers) {
  struct stat st {};
  for (std::size_t i = layers; i-- > 0;) {
    const std::string path = std::string(kLayers) + "/" + std::to_string(i);
    if (::stat(path.c_str(), &st) < 0) return fail_errno("stat " + path, errno);
    if (st.st_mtim.tv_sec != 0) break;
  }
  const std::string data = std::string(kUpper) + "/data";
  if (::chown(data.c_str(), st.st_uid, st.st_gid) < 0) return fail_errno("chown " + data, errno);
  if (::chmod(data.c_str(), st.st_mode & 07777) < 0) return fail_errno("chmod " + data, errno);
  const timespec times[2] = {st.st_atim, st.st_mtim};
  if (::utimensat(AT_FDCWD, data.c_str(), times, 0) < 0) return fail_errno("utimensat", errno);
  return {};
}

Status mount_layers(const std::vector<std::string>& disks) {
  SM_TRY_STATUS(make_dir(kLayers, 0700));
  for (std::size_t i = 0; i < disks.size(); ++i) {
    const std::string path = std::string(kLayers) + "/" + std::to_string(i);
    SM_TRY_STATUS(make_dir(path, 0700));
    SM_TRY_STATUS(mount_at(disks[i], path, "squashfs", MS_RDONLY, ""));
  }
  return {};
}

// Lower folders are named relative to kLayers, topmost first: the whole option string has to fit in
// a page, and this way 500 layers, overlayfs's own limit, do.
Status mount_overlay(std::size_t layers) {
  if (::chdir(kLayers) < 0) return fail_errno("chdir to the layers", errno);
  std::string lower;
  for (std::size_t i = layers; i-- > 0;) {
    lower += std::to_string(i);
    if (i > 0) lower += ':';
  }
  const std::string options = "lowerdir=" + lower +
                              ",upperdir=/upper/data,workdir=/upper/work"
                              ",redirect_dir=on,metacopy=on,index=off,xino=on";
  const Status mounted = mount_at("overlay", kNewRoot, "overlay", 0, options);
  if (::chdir("/") < 0) return fail_errno("chdir /", errno);
  return mounted;
}

// Opens a folder of the new root as a mount point, making it when it is missing. A link there
// would lead the mount elsewhere and is refused.
Result<UniqueFd> open_mount_point(int root, const char* name) {
  if (::mkdirat(root, name, 0755) < 0 && errno != EEXIST) {
    return fail_errno(std::string("mkdir /") + name + " in the image", errno);
  }
  UniqueFd fd(::openat(root, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) {
    return fail_errno(std::string("the image's /") + name + " is not a plain folder", errno);
  }
  return fd;
}

Status move_into(int root, const char* name) {
  const UniqueFd target = SM_TRY(open_mount_point(root, name));
  const std::string source = std::string("/") + name;
  if (::move_mount(AT_FDCWD, source.c_str(), target.get(), "", MOVE_MOUNT_T_EMPTY_PATH) < 0) {
    return fail_errno("move the mount " + source, errno);
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
  const std::string options = tmpfs_options(config.upper_bytes);
  if (disks.empty()) return mount_at("tmpfs", kNewRoot, "tmpfs", 0, options);
  SM_TRY_STATUS(make_dir(kUpper, 0700));
  SM_TRY_STATUS(mount_at("tmpfs", kUpper, "tmpfs", 0, options));
  SM_TRY_STATUS(make_dir(std::string(kUpper) + "/data", 0755));
  SM_TRY_STATUS(make_dir(std::string(kUpper) + "/work", 0755));
  SM_TRY_STATUS(mount_layers(disks));
  SM_TRY_STATUS(copy_root_attributes(disks.size()));
  return mount_overlay(disks.size());
}

Status switch_root() {
  const UniqueFd root = SM_TRY(open_file(kNewRoot, O_PATH | O_DIRECTORY));
  for (const char* name : {"proc", "sys", "dev"}) SM_TRY_STATUS(move_into(root.get(), name));
  free_initramfs();
  if (::fchdir(root.get()) < 0) return fail_errno("chdir to the new root", errno);
  if (::mount(".", "/", nullptr, MS_MOVE, nullptr) < 0) return fail_errno("move the root", errno);
  if (::chroot(".") < 0) return fail_errno("chroot", errno);
  if (::chdir("/") < 0) return fail_errno("chdir /", errno);
  return {};
}

}  // namespace sm::guest
