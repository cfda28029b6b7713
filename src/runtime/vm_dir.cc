#include "runtime/vm_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <system_error>

#include "base/file.h"

namespace sm {

namespace {

bool try_lock(int fd) { return ::flock(fd, LOCK_EX | LOCK_NB) == 0; }

void remove_tree(const std::string& path) {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

// A folder whose lock nobody holds belongs to a process that was killed.
void remove_dead(const std::string& runtime_dir) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(runtime_dir.c_str()), ::closedir);
  if (!dir) return;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (!name.starts_with("vm-")) continue;
    const std::string path = runtime_dir + "/" + name;
    auto lock = open_file(path + "/lock", O_RDWR);
    if (lock && try_lock(lock->get())) remove_tree(path);
  }
}

// Claims <dir>/name-<name>: the lock, not the file's existence, is the claim.
Result<UniqueFd> claim_name(const std::string& path, const std::string& name) {
  for (;;) {
    UniqueFd fd = SM_TRY(open_file(path, O_RDWR | O_CREAT, 0600));
    if (!try_lock(fd.get())) {
      return fail(Code::kInvalidArgument, "the name '" + name + "' is used by a running VM",
                  "choose another --name, or stop that VM");
    }
    // The former holder may have unlinked the file between our open and our lock.
    struct stat ours {
    }, there{};
    if (::fstat(fd.get(), &ours) == 0 && ::stat(path.c_str(), &there) == 0 &&
        ours.st_ino == there.st_ino) {
      return fd;
    }
  }
}

}  // namespace

Result<VmDir> VmDir::create(const std::string& runtime_dir, const std::string& id,
                            const std::string& name) {
  remove_dead(runtime_dir);
  UniqueFd name_lock;
  const std::string name_path = runtime_dir + "/name-" + name;
  if (!name.empty()) name_lock = SM_TRY(claim_name(name_path, name));
  // The lock is taken under a name that remove_dead does not look at.
  const std::string path = runtime_dir + "/vm-" + id;
  const std::string fresh = runtime_dir + "/new-" + id;
  if (::mkdir(fresh.c_str(), 0700) < 0) return fail_errno("mkdir " + fresh, errno);
  auto lock = open_file(fresh + "/lock", O_RDWR | O_CREAT | O_EXCL, 0600);
  if (!lock || !try_lock(lock->get()) || ::rename(fresh.c_str(), path.c_str()) < 0) {
    const int e = errno;
    remove_tree(fresh);
    return fail_errno("prepare " + path, e);
  }
  VmDir out(path, std::move(*lock));
  if (!name.empty()) {
    out.name_path_ = name_path;
    out.name_lock_ = std::move(name_lock);
  }
  return out;
}

VmDir::~VmDir() {
  if (!lock_.valid()) return;
  remove_tree(path_);
  if (name_lock_.valid()) ::unlink(name_path_.c_str());
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
