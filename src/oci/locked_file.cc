// Locking files by flock(2).
#include "oci/locked_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "base/file.h"
#include "oci/folder.h"
#include "oci/text.h"

namespace sm {
namespace {

int operation(LockKind kind) { return (kind == LockKind::kShared ? LOCK_SH : LOCK_EX) | LOCK_NB; }

// Nothing tells when a lock of another process is free, so one asks again after a while. Ends early
// on a stop request.
void pause_for_lock(const std::stop_token& stop) {
  constexpr auto kInterval = std::chrono::milliseconds(25);
  std::mutex mutex;
  std::condition_variable_any nobody_signals;
  std::unique_lock lock(mutex);
  nobody_signals.wait_for(lock, stop, kInterval, [] { return false; });
}

}  // namespace

bool try_lock(int fd, LockKind kind) {
  int result = -1;
  do result = ::flock(fd, operation(kind));
  while (result != 0 && errno == EINTR);
  return result == 0;
}

Result<UniqueFd> lock_file(const std::string& path, LockKind kind, const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    auto fd = SM_TRY(open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
    if (!try_lock(fd.get(), kind)) {
      if (errno != EWOULDBLOCK) return fail_errno("lock " + printable(path), errno);
      pause_for_lock(stop);
      continue;
    }
    if (is_same_file(fd.get(), path)) return fd;
  }
  return fail(Code::kGone, "cancelled");
}

bool is_same_file(int fd, const std::string& path) {
  struct stat held {};
  struct stat named {};
  return ::fstat(fd, &held) == 0 && ::lstat(path.c_str(), &named) == 0 &&
         held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

void remove_unlocked(const std::string& folder, std::string_view suffix) {
  for (const auto& name : folder_names(folder)) {
    if (!name.ends_with(suffix)) continue;
    const auto path = folder + "/" + name;
    auto fd = open_file(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
    if (!fd || !try_lock(fd->get(), LockKind::kExclusive)) continue;
    if (is_same_file(fd->get(), path)) ::unlink(path.c_str());
  }
}

}  // namespace sm
