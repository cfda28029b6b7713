#include "vmm/sandbox/descriptors.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <vector>

namespace sm::sandbox {

namespace {

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

Result<std::vector<int>> open_descriptors() {
  const std::unique_ptr<DIR, CloseDir> dir(::opendir("/proc/self/fd"));
  if (!dir) return fail_errno("sandbox: list descriptors", errno);
  std::vector<int> found;
  while (const dirent* entry = ::readdir(dir.get())) {
    int fd = -1;
    const char* name = static_cast<const char*>(entry->d_name);
    const auto [end, error] = std::from_chars(name, name + std::strlen(name), fd);
    if (error == std::errc() && *end == '\0') found.push_back(fd);
  }
  return found;
}

}  // namespace

Status close_inherited() {
  for (const int fd : SM_TRY(open_descriptors())) {
    if (fd <= STDERR_FILENO) continue;
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags >= 0 && (flags & FD_CLOEXEC) == 0) ::close(fd);
  }
  return {};
}

}  // namespace sm::sandbox
