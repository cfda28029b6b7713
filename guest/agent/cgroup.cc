#include "agent/cgroup.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/file.h"

namespace sm::guest {

namespace {
// Tries per call, so that many long-lived leftovers do not slow every start down.
constexpr std::size_t kTries = 4;
}  // namespace

CgroupPool::CgroupPool(const std::string& base) {
  if (base.empty()) return;
  const std::string mount = base.substr(0, base.rfind('/'));
  struct statfs fs {};
  if (::statfs(mount.c_str(), &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC) return;
  if (::mkdir(base.c_str(), 0755) < 0 && errno != EEXIST) return;
  if (auto dir = open_file(base, O_RDONLY | O_DIRECTORY)) base_ = std::move(*dir);
}

Cgroup CgroupPool::make() {
  if (!base_.valid()) return {};
  remove_leftovers();
  Cgroup cgroup;
  cgroup.name = "exec-" + std::to_string(next_++);
  if (::mkdirat(base_.get(), cgroup.name.c_str(), 0755) < 0) return {};
  cgroup.dir =
      UniqueFd(::openat(base_.get(), cgroup.name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!cgroup.dir.valid()) ::unlinkat(base_.get(), cgroup.name.c_str(), AT_REMOVEDIR);
  return cgroup;
}

void CgroupPool::kill(const Cgroup& cgroup) {
  if (!cgroup.dir.valid()) return;
  const UniqueFd fd(::openat(cgroup.dir.get(), "cgroup.kill", O_WRONLY | O_CLOEXEC));
  // An empty cgroup takes the write as well; there is nothing to do about a failure.
  if (fd.valid() && ::write(fd.get(), "1", 1) < 0) return;
}

void CgroupPool::retire(Cgroup cgroup) {
  if (!cgroup.dir.valid()) return;
  cgroup.dir.reset();
  leftovers_.push_back(std::move(cgroup.name));
  remove_leftovers();
}

void CgroupPool::remove_leftovers() {
  for (std::size_t i = 0; i < kTries && !leftovers_.empty(); ++i) {
    std::string name = std::move(leftovers_.front());
    leftovers_.pop_front();
    if (::unlinkat(base_.get(), name.c_str(), AT_REMOVEDIR) < 0 && errno == EBUSY) {
      leftovers_.push_back(std::move(name));
    }
  }
}

}  // namespace sm::guest
