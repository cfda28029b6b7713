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
#include <string_view>
#include <system_error>
#include <vector>

#include "base/file.h"
#include "runtime/unix_connect.h"

namespace sm {

namespace {

bool try_lock(int fd) { return ::flock(fd, LOCK_EX | LOCK_NB) == 0; }

void remove_tree(const std::string& path) {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

}  // namespace

namespace {

// The socket of a keeper that was killed: nobody listens. One whose VM is there has not to be
// asked.
bool is_dead_keeper(const std::string& runtime_dir, const std::string& name) {
  constexpr std::string_view kPrefix = "keeper-", kSuffix = ".sock";
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return false;
  const std::string id = name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
  struct stat st {};
  if (::stat(VmDir::path_of(runtime_dir, id).c_str(), &st) == 0) return false;
  const auto socket = connect_unix(runtime_dir + "/" + name);
  return !socket && socket.error().code() == Code::kGone;  // refused
}

}  // namespace

// A folder whose lock nobody holds belongs to a process that was killed.
void VmDir::remove_dead(const std::string& runtime_dir) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(runtime_dir.c_str()), ::closedir);
  if (!dir) return;
  std::vector<std::string> others;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (!name.starts_with("vm-")) {
      others.push_back(name);
      continue;
    }
    const std::string path = runtime_dir + "/" + name;
    auto lock = open_file(path + "/lock", O_RDWR);
    if (lock && try_lock(lock->get())) remove_tree(path);
  }
  for (const std::string& name : others) {
    if (is_dead_keeper(runtime_dir, name)) ::unlink((runtime_dir + "/" + name).c_str());
  }
}

Result<VmDir> VmDir::create(const std::string& runtime_dir, const std::string& id) {
  remove_dead(runtime_dir);
  // The lock is taken under a name that remove_dead does not look at.
  const std::string path = path_of(runtime_dir, id);
  const std::string fresh = runtime_dir + "/new-" + id;
  if (::mkdir(fresh.c_str(), 0700) < 0) return fail_errno("mkdir " + fresh, errno);
  auto lock = open_file(fresh + "/lock", O_RDWR | O_CREAT | O_EXCL, 0600);
  if (!lock || !try_lock(lock->get()) || ::rename(fresh.c_str(), path.c_str()) < 0) {
    const int e = errno;
    remove_tree(fresh);
    return fail_errno("prepare " + path, e);
  }
  return VmDir(path, std::move(*lock));
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
