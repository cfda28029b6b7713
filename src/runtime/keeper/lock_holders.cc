#include "runtime/keeper/lock_holders.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/unique_fd.h"

namespace sm {

namespace {

constexpr std::size_t kMaxProcFile = 64u << 10;

struct Process {
  pid_t pid = 0;
  UniqueFd handle;
};

std::vector<std::string> names_in(const std::string& path) {
  std::vector<std::string> out;
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(path.c_str()), ::closedir);
  if (!dir) return out;
  while (const dirent* entry = ::readdir(dir.get())) out.emplace_back(entry->d_name);
  return out;
}

std::optional<pid_t> pid_of(std::string_view name) {
  pid_t out = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), out);
  if (error != std::errc() || end != name.data() + name.size() || out <= 0) return std::nullopt;
  return out;
}

// As numbers: the C library has no names for these calls everywhere.
Process pin(pid_t pid) {
  return {pid, UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)))};
}

bool has_ended(const Process& process, int timeout_ms) {
  pollfd one{process.handle.get(), POLLIN, 0};
  return ::poll(&one, 1, timeout_ms) > 0;
}

Status kill_pinned(const Process& process) {
  if (::syscall(SYS_pidfd_send_signal, process.handle.get(), SIGKILL, nullptr, 0) == 0) return {};
  if (errno == ESRCH) return {};
  return fail_errno("kill process " + std::to_string(process.pid), errno);
}

// An open file description's lock is shown with each descriptor of it.
bool holds(pid_t pid, const struct stat& file) {
  const std::string proc = "/proc/" + std::to_string(pid);
  for (const std::string& fd : names_in(proc + "/fd")) {
    struct stat st {};
    if (::stat((proc + "/fd/" + fd).c_str(), &st) < 0 || st.st_ino != file.st_ino ||
        st.st_dev != file.st_dev) {
      continue;
    }
    const std::string info = read_file(proc + "/fdinfo/" + fd, kMaxProcFile).value_or("");
    if (info.find("OFDLCK") != std::string::npos && info.find("WRITE") != std::string::npos) {
      return true;
    }
  }
  return false;
}

std::vector<Process> holders_of(const struct stat& file) {
  std::vector<Process> out;
  for (const std::string& name : names_in("/proc")) {
    const auto pid = pid_of(name);
    struct stat st {};
    if (!pid || *pid == ::getpid() || ::stat(("/proc/" + name).c_str(), &st) < 0 ||
        st.st_uid != ::geteuid()) {
      continue;
    }
    Process process = pin(*pid);
    // Still there after the look: it was this one that was looked at.
    if (process.handle.valid() && holds(*pid, file) && !has_ended(process, 0)) {
      out.push_back(std::move(process));
    }
  }
  return out;
}

pid_t parent_of(pid_t pid) {
  const auto text = read_file("/proc/" + std::to_string(pid) + "/stat", kMaxProcFile).value_or("");
  // The program's name may hold anything; behind it come the state and the parent.
  const auto name_end = text.rfind(") ");
  if (name_end == std::string::npos || text.size() < name_end + 4) return 0;
  const std::string_view rest = std::string_view(text).substr(name_end + 4);
  return pid_of(rest.substr(0, rest.find(' '))).value_or(0);
}

// A child of one of them, who have not ended: nobody else can have got its number.
std::optional<Process> child_of(const std::vector<Process>& parents, pid_t worker) {
  if (worker <= 0 || worker == ::getpid()) return std::nullopt;
  Process child = pin(worker);
  const pid_t parent = parent_of(worker);
  for (const Process& process : parents) {
    if (child.handle.valid() && process.pid == parent && !has_ended(process, 0) &&
        !has_ended(child, 0)) {
      return child;
    }
  }
  return std::nullopt;
}

}  // namespace

Status end_lock_holders(const std::string& lock, pid_t worker, Duration patience) {
  struct stat file {};
  if (::stat(lock.c_str(), &file) < 0) return fail_errno(lock, errno);
  const Deadline deadline = Deadline::after(patience);
  std::vector<Process> found = holders_of(file);
  if (found.empty()) {
    return fail(Code::kNotFound, "no process of this user is seen to hold " + lock,
                "find the one that keeps the VM with `ps`, and end it");
  }
  // The worker is told of its keeper's death by the kernel; to be told twice does no harm.
  if (auto child = child_of(found, worker)) found.push_back(*std::move(child));
  for (const Process& process : found) SM_TRY_STATUS(kill_pinned(process));
  for (const Process& process : found) {
    if (!has_ended(process, deadline.poll_timeout_ms())) {
      return fail(Code::kTimeout, "process " + std::to_string(process.pid) + " does not end",
                  "it waits in the kernel for a device; look at the machine's log");
    }
  }
  return {};
}

}  // namespace sm
