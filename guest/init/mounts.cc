#include "init/mounts.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace sm::guest {

namespace {

Status make_mount_point(const char* path) {
  if (::mkdir(path, 0755) < 0 && errno != EEXIST) {
    return fail_errno(std::string("mkdir ") + path, errno);
  }
  return {};
}

Status mount_once(const char* type, const char* path, unsigned long flags, const char* options) {
  SM_TRY_STATUS(make_mount_point(path));
  if (::mount(type, path, type, flags, options) < 0) {
    return fail_errno(std::string("mount ") + type + " on " + path, errno);
  }
  return {};
}

// The kernel may lack this file system; the image then lives without it.
Status mount_optional(const char* type, const char* path, unsigned long flags,
                      const char* options) {
  SM_TRY_STATUS(make_mount_point(path));
  if (::mount(type, path, type, flags, options) < 0 && errno != ENODEV) {
    return fail_errno(std::string("mount ") + type + " on " + path, errno);
  }
  return {};
}

Status link_device(const char* target, const char* path) {
  if (::symlink(target, path) < 0 && errno != EEXIST) {
    return fail_errno(std::string("symlink ") + path, errno);
  }
  return {};
}

constexpr unsigned long kSafe = MS_NOSUID | MS_NODEV | MS_NOEXEC;

}  // namespace

Status mount_kernel_views() {
  SM_TRY_STATUS(mount_once("proc", "/proc", kSafe, nullptr));
  SM_TRY_STATUS(mount_once("sysfs", "/sys", kSafe, nullptr));
  SM_TRY_STATUS(mount_once("devtmpfs", "/dev", MS_NOSUID | MS_STRICTATIME, "mode=0755"));
  return {};
}

Status mount_device_views(const BootConfig& config) {
  SM_TRY_STATUS(mount_once("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC,
                           "newinstance,ptmxmode=0666,mode=0620,gid=5"));
  const std::string shm = "mode=1777,size=" + std::to_string(config.shm_bytes);
  SM_TRY_STATUS(mount_once("tmpfs", "/dev/shm", kSafe, shm.c_str()));
  SM_TRY_STATUS(mount_optional("mqueue", "/dev/mqueue", kSafe, nullptr));
  SM_TRY_STATUS(mount_optional("cgroup2", "/sys/fs/cgroup", kSafe, "nsdelegate"));
  SM_TRY_STATUS(link_device("/proc/self/fd", "/dev/fd"));
  SM_TRY_STATUS(link_device("/proc/self/fd/0", "/dev/stdin"));
  SM_TRY_STATUS(link_device("/proc/self/fd/1", "/dev/stdout"));
  SM_TRY_STATUS(link_device("/proc/self/fd/2", "/dev/stderr"));
  SM_TRY_STATUS(link_device("/proc/kcore", "/dev/core"));
  return {};
}

}  // namespace sm::guest
