#include "agent/root_disk.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "common/disks.h"
#include "common/root_mounts.h"

namespace sm::guest {

namespace {

constexpr auto kDiskTimeout = std::chrono::seconds(5);

// In the folder of the layers.
constexpr const char* kUpper = "upper";
constexpr const char* kRoot = "root";

Status make_dir(const char* path, mode_t mode) {
  if (::mkdir(path, mode) < 0 && errno != EEXIST) {
    return fail_errno(std::string("mkdir ") + path, errno);
  }
  return {};
}

// What is deleted goes back to the host, which makes holes of it. The inode tables were zeros
// before there was a file system: nobody has to write them.
Status mount_disk(const std::string& node) {
  constexpr const char* kOptions = "discard,noinit_itable,errors=remount-ro";
  SM_TRY_STATUS(make_dir(kUpper, 0700));
  if (::mount(node.c_str(), kUpper, "ext4", MS_NOATIME, kOptions) < 0) {
    return fail_errno("mount the file system on " + node, errno);
  }
  return {};
}

std::size_t count_layers() {
  struct stat st {};
  std::size_t count = 0;
  while (::stat(std::to_string(count).c_str(), &st) == 0) ++count;
  return count;
}

}  // namespace

Status switch_to_root_disk(int layers, const std::string& serial) {
  const auto nodes = SM_TRY(find_disks({serial}, Deadline::after(kDiskTimeout)));
  if (::fchdir(layers) < 0) return fail_errno("chdir to the layers", errno);
  // An overlay has a lower folder, if only an empty one.
  if (count_layers() == 0) SM_TRY_STATUS(make_dir("0", 0755));
  const std::size_t count = count_layers();
  SM_TRY_STATUS(mount_disk(nodes[0]));
  SM_TRY_STATUS(prepare_upper(kUpper, count));
  SM_TRY_STATUS(make_dir(kRoot, 0755));
  SM_TRY_STATUS(mount_overlay(count, kUpper, kRoot));
  const UniqueFd root(::open(kRoot, O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return fail_errno("open the new root", errno);
  SM_TRY_STATUS(take_views(root.get()));
  return make_root(root.get());
}

// "/.." is what lies upon "/"; "/" is not.
Status follow_root() {
  if (::chdir("/..") < 0) return fail_errno("chdir to the new root", errno);
  if (::chroot(".") < 0) return fail_errno("chroot", errno);
  return {};
}

}  // namespace sm::guest
