#include "runtime/vm_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "oci/locked_file.h"
#include "runtime/unix_connect.h"

namespace sm {

namespace {

// Nobody keeps the runtime folder longer than some files take to make or to remove.
constexpr Duration kLockPatience = std::chrono::seconds(10);

void remove_tree(const std::string& path) {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

// The socket of a keeper that was killed, or that was killed before the socket had its name: nobody
// listens. One whose VM is there has not to be asked.
bool is_dead_keeper(const std::string& runtime_dir, std::string name) {
  constexpr std::string_view kPrefix = "keeper-", kSuffix = ".sock";
  const std::string path = runtime_dir + "/" + name;
  const bool fresh = name.ends_with('~');
  if (fresh) name.pop_back();
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return false;
  const std::string id = name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
  struct stat st {};
  if (!fresh && ::stat(VmDir::path_of(runtime_dir, id).c_str(), &st) == 0) return false;
  const auto socket = connect_unix(path);
  return !socket && socket.error().code() == Code::kGone;  // refused
}

// Under the lock of all: what is not complete is nobody's. A folder whose lock nobody holds belongs
// to a process that was killed.
void sweep(const std::string& runtime_dir) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(runtime_dir.c_str()), ::closedir);
  if (!dir) return;
  std::vector<std::string> others;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    const std::string path = runtime_dir + "/" + name;
    if (name.starts_with("vm-")) {
      auto lock = open_file(path + "/lock", O_RDWR);
      const bool missing = !lock && lock.error().code() == Code::kNotFound;
      if (missing || (lock && try_lock(lock->get(), LockKind::kExclusive))) remove_tree(path);
    } else if (name.starts_with("new-")) {
      remove_tree(path);
    } else {
      others.push_back(name);
    }
  }
  for (const std::string& name : others) {
    if (is_dead_keeper(runtime_dir, name)) ::unlink((runtime_dir + "/" + name).c_str());
  }
}

}  // namespace

Result<UniqueFd> VmDir::lock_all(const std::string& runtime_dir) {
  UniqueFd fd = SM_TRY(open_file(runtime_dir, O_RDONLY | O_DIRECTORY));
  const Deadline deadline = Deadline::after(kLockPatience);
  while (!try_lock(fd.get(), LockKind::kExclusive)) {
    if (deadline.passed()) {
      return fail(Code::kTimeout, "another process keeps " + runtime_dir + " locked",
                  "end it; `fuser " + runtime_dir + "` names it");
    }
    // A lock has nothing that could be waited for with a deadline.
    ::poll(nullptr, 0, 1);
  }
  return fd;
}

void VmDir::remove_dead(const std::string& runtime_dir) {
  if (const auto guard = lock_all(runtime_dir)) sweep(runtime_dir);
}

Result<VmDir> VmDir::create(const std::string& runtime_dir, const std::string& id) {
  const UniqueFd guard = SM_TRY(lock_all(runtime_dir));
  sweep(runtime_dir);
  // Complete and locked before it has its name.
  const std::string path = path_of(runtime_dir, id);
  const std::string fresh = runtime_dir + "/new-" + id;
  if (::mkdir(fresh.c_str(), 0700) < 0) return fail_errno("mkdir " + fresh, errno);
  auto lock = open_file(fresh + "/lock", O_RDWR | O_CREAT | O_EXCL, 0600);
  if (!lock || !try_lock(lock->get(), LockKind::kExclusive) ||
      ::rename(fresh.c_str(), path.c_str()) < 0) {
    const int e = errno;
    remove_tree(fresh);
    return fail_errno("prepare " + path, e);
  }
  return VmDir(path, std::move(*lock));
}

bool VmDir::intact() const {
  struct stat there {
  }, ours{};
  return ::stat((path_ + "/lock").c_str(), &there) == 0 && ::fstat(lock_.get(), &ours) == 0 &&
         there.st_dev == ours.st_dev && there.st_ino == ours.st_ino;
}

VmDir::~VmDir() {
  if (!lock_.valid()) return;
  remove_tree(path_);
}

Result<std::string> random_id() {
  std::array<unsigned char, 6> bytes;
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return fail_errno("getrandom", errno);
  }
  std::string id;
  for (const unsigned char b : bytes) {
    id += "0123456789abcdef"[b >> 4];
    id += "0123456789abcdef"[b & 15];
  }
  return id;
}

Status check_name(const std::string& name) {
  const auto ok = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '-';
  };
  if (name.size() > 128 || std::isalnum(static_cast<unsigned char>(name.front())) == 0 ||
      !std::all_of(name.begin(), name.end(), ok)) {
    return fail(Code::kInvalidArgument, "'" + name + "' cannot be a name",
                "use letters, digits, '_', '.' and '-', beginning with a letter or digit");
  }
  return {};
}

}  // namespace sm
