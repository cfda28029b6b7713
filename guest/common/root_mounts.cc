#include "common/root_mounts.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/unique_fd.h"

namespace sm::guest {

namespace {

Status make_dir(const std::string& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) < 0 && errno != EEXIST) {
    return fail_errno("mkdir " + path, errno);
  }
  return {};
}

// The merged root shows the upper folder's own attributes, so they are copied from the image. A
// layer without an entry for its root has the time 0 there and says nothing about it.
Status copy_root_attributes(std::size_t layers, const std::string& data) {
  struct stat st {};
  for (std::size_t i = layers; i-- > 0;) {
    const std::string path = std::to_string(i);
    if (::stat(path.c_str(), &st) < 0) return fail_errno("stat layer " + path, errno);
    if (st.st_mtim.tv_sec != 0) break;
  }
  if (layers == 0) return {};
  if (::chown(data.c_str(), st.st_uid, st.st_gid) < 0) return fail_errno("chown " + data, errno);
  if (::chmod(data.c_str(), st.st_mode & 07777) < 0) return fail_errno("chmod " + data, errno);
  const timespec times[2] = {st.st_atim, st.st_mtim};
  if (::utimensat(AT_FDCWD, data.c_str(), times, 0) < 0) return fail_errno("utimensat", errno);
  return {};
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

}  // namespace

// data/ has its name when it is complete: on a disk the machine may end at any moment.
Status prepare_upper(const std::string& upper, std::size_t layers) {
  const std::string data = upper + "/data";
  SM_TRY_STATUS(make_dir(upper + "/work", 0755));
  struct stat st {};
  if (::lstat(data.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) return {};
  const std::string fresh = upper + "/new";
  SM_TRY_STATUS(make_dir(fresh, 0755));
  SM_TRY_STATUS(copy_root_attributes(layers, fresh));
  if (::rename(fresh.c_str(), data.c_str()) < 0) return fail_errno("rename " + fresh, errno);
  return {};
}

// Lower folders are named by their numbers, topmost first: the whole option string has to fit in a
// page, and this way 500 layers, overlayfs's own limit, do.
Status mount_overlay(std::size_t layers, const std::string& upper, const std::string& target) {
  std::string lower;
  for (std::size_t i = layers; i-- > 0;) {
    lower += std::to_string(i);
    if (i > 0) lower += ':';
  }
  const std::string options = "lowerdir=" + lower + ",upperdir=" + upper +
                              "/data,workdir=" + upper +
                              "/work,redirect_dir=on,metacopy=on,index=off,xino=on";
  if (::mount("overlay", target.c_str(), "overlay", 0, options.c_str()) < 0) {
    return fail_errno("mount overlay on " + target, errno);
  }
  return {};
}

Status take_views(int root) {
  for (const char* name : {"proc", "sys", "dev"}) SM_TRY_STATUS(move_into(root, name));
  return {};
}

Status make_root(int root) {
  if (::fchdir(root) < 0) return fail_errno("chdir to the new root", errno);
  if (::mount(".", "/", nullptr, MS_MOVE, nullptr) < 0) return fail_errno("move the root", errno);
  if (::chroot(".") < 0) return fail_errno("chroot", errno);
  if (::chdir("/") < 0) return fail_errno("chdir /", errno);
  return {};
}

}  // namespace sm::guest
