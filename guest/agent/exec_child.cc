// The way from fork to exec of a program: session, terminal, user, folder, environment.

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "agent/child.h"
#include "agent/child_status.h"
#include "agent/container_child.h"
#include "common/user_db.h"

namespace sm::guest {

namespace {

using agent::ErrorKind;

// Blocked and ignored signals survive an exec, so both are set back.
void reset_signals() {
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// The agent is out of reach of the out-of-memory killer; what it starts is not.
void set_oom_score(std::int32_t score) {
  const UniqueFd fd(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  const std::string text = std::to_string(score);
  const bool written = fd.valid() && ::write(fd.get(), text.data(), text.size()) > 0;
  if (!written && score != 0) fail_child(ErrorKind::kSetting, errno, "oom_score_adj " + text);
}

// Text of one of the image's own user files; empty when it has none.
std::string load_user_file(const char* path) {
  const UniqueFd fd = open_regular(path);
  if (!fd.valid()) {
    if (errno == ENOENT || errno == ENOTDIR) return {};
    fail_child(ErrorKind::kUser, errno, path);
  }
  std::string text;
  std::array<char, 16384> buffer;
  for (;;) {
    const ssize_t n = ::read(fd.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_child(ErrorKind::kUser, errno, path);
    if (n == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(n));
    if (text.size() > kMaxUserFile) fail_child(ErrorKind::kUser, EFBIG, path);
  }
}

UserIds find_ids(const ExecPlan& plan) {
  const std::string group = load_user_file("/etc/group");
  auto ids = resolve_user(plan.user, load_user_file("/etc/passwd"), group);
  if (!ids) fail_child(ErrorKind::kUser, 0, ids.error().cause());
  const auto added = add_groups(*ids, plan.settings.groups, group);
  if (!added) fail_child(ErrorKind::kUser, 0, added.error().cause());
  return std::move(*ids);
}

// The program may open /dev/stdout again, which checks the owner of the pipe or terminal.
void give_streams_to(uid_t uid) {
  struct stat st {};
  for (int fd = 0; fd <= 2; ++fd) {
    if (::fstat(fd, &st) < 0 || st.st_uid == uid) continue;
    if (S_ISCHR(st.st_mode) && ::isatty(fd) == 0) continue;
    // A refusal leaves the stream usable as it is.
    if (::fchown(fd, uid, static_cast<gid_t>(-1)) < 0) continue;
  }
}

void become(const UserIds& ids) {
  if (::setgroups(ids.groups.size(), ids.groups.data()) < 0) {
    fail_child(ErrorKind::kUser, errno, "setgroups");
  }
  if (::setresgid(ids.gid, ids.gid, ids.gid) < 0) fail_child(ErrorKind::kUser, errno, "setgid");
  if (::setresuid(ids.uid, ids.uid, ids.uid) < 0) fail_child(ErrorKind::kUser, errno, "setuid");
}

// First as root, whose view of the folder does not depend on the user; a file system that shuts
// even root out gets a second chance as the user. True when done.
bool enter_folder(const ExecPlan& plan) {
  if (plan.create_cwd) make_folders(plan.cwd);
  if (::chdir(plan.cwd.c_str()) == 0) return true;
  if (errno == EACCES) return false;
  fail_child(ErrorKind::kWorkdir, errno, "working directory \"" + plan.cwd + "\"");
}

Words final_environment(const ExecPlan& plan, const UserIds& ids) {
  Words env = plan.env;
  add_default(env, "PATH", kDefaultPath);
  add_default(env, "HOSTNAME", plan.hostname);
  if (plan.tty) add_default(env, "TERM", "xterm");
  add_default(env, "HOME", ids.home);
  return env;
}

std::vector<char*> pointers_to(Words& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

bool is_missing(int error) { return error == ENOENT || error == ENOTDIR; }

bool is_folder(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

// Tries each candidate; returns the error that says most: a program that is there but may not be
// run beats one that is not there.
int try_candidates(const Words& candidates, char* const* argv, char* const* envp) {
  int reason = ENOENT;
  for (const std::string& path : candidates) {
    ::execve(path.c_str(), argv, envp);
    const int error = errno;
    if (is_missing(error)) continue;
    if (error == EACCES && is_folder(path)) {
      if (candidates.size() == 1) reason = EISDIR;
      continue;
    }
    reason = error;
    if (error != EACCES) break;
  }
  return reason;
}

[[noreturn]] void fail_exec(const std::string& program, int reason) {
  const std::string text = "exec: \"" + program + "\"";
  const bool has_slash = program.find('/') != std::string::npos;
  if (is_missing(reason) && !has_slash) {
    fail_child(ErrorKind::kExecNotFound, 0, text + ": executable file not found in $PATH");
  }
  const bool not_found = is_missing(reason) || reason == ELOOP || reason == ENAMETOOLONG;
  fail_child(not_found ? ErrorKind::kExecNotFound : ErrorKind::kExecDenied, reason, text);
}

// As the program's user, who could open it himself; what blocks here blocks only this child.
void redirect_output(const std::string& path) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY | O_CLOEXEC, 0644);
  if (file < 0 || ::dup2(file, 1) < 0 || ::dup2(file, 2) < 0) {
    fail_child(ErrorKind::kFile, errno, path);
  }
}

void wait_for_release() {
  report_prepared();
  char byte = 0;
  ssize_t n = 0;
  do {
    n = ::read(kChildStatusFd, &byte, 1);
  } while (n < 0 && errno == EINTR);
  // End of file: the agent gave the workload up.
  if (n <= 0) ::_exit(127);
}

}  // namespace

void make_folders(const std::string& path) {
  for (std::size_t at = path.find('/', 1);; at = path.find('/', at + 1)) {
    const std::string part = path.substr(0, at);
    if (::mkdir(part.c_str(), 0755) < 0 && errno != EEXIST) return;
    if (at == std::string::npos) return;
  }
}

void run_exec_child(const ExecPlan& plan, const ChildDescriptors& descriptors) {
  take_descriptors(descriptors);
  ::setsid();
  if (plan.tty && ::ioctl(0, TIOCSCTTY, 0) < 0) {
    fail_child(ErrorKind::kResource, errno, "controlling terminal");
  }
  reset_signals();
  set_oom_score(plan.settings.oom_score_adj);
  if (plan.machine) prepare_machine(*plan.machine, plan.hostname);
  if (!plan.files.empty()) stage_files(plan.files);
  ::umask(022);
  const UserIds ids = find_ids(plan);
  const bool entered = enter_folder(plan);
  if (plan.machine) seal_root(*plan.machine);
  give_streams_to(ids.uid);
  limit_process(plan.settings);
  become(ids);
  give_up_privileges(plan.settings, ids.uid);
  if (!entered && ::chdir(plan.cwd.c_str()) < 0) {
    fail_child(ErrorKind::kWorkdir, errno, "working directory \"" + plan.cwd + "\"");
  }
  if (!plan.output.empty()) redirect_output(plan.output);
  Words env = final_environment(plan, ids);
  Words argv = plan.argv;
  const Words candidates =
      program_candidates(argv[0], find_variable(env, "PATH").value_or(kDefaultPath));
  if (plan.wait_for_release) wait_for_release();
  fail_exec(argv[0], try_candidates(candidates, pointers_to(argv).data(), pointers_to(env).data()));
}

}  // namespace sm::guest
