#include "runtime/run_command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/unique_fd.h"

namespace sm {

namespace {

constexpr std::size_t kMaxOutput = 1u << 20;

Result<pid_t> start(const std::vector<std::string>& words, int output) {
  std::vector<std::string> copy = words;
  std::vector<char*> argv;
  for (std::string& word : copy) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, output, 1);
  ::posix_spawn_file_actions_adddup2(&actions, output, 2);
  pid_t pid = -1;
  const int error =
      ::posix_spawn(&pid, copy.front().c_str(), &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return fail_errno("start " + words.front(), error);
  return pid;
}

// Reads to the end of the pipe; false at the deadline.
bool collect(int fd, const Deadline& deadline, std::string& out) {
  std::array<char, 4096> buffer;
  for (;;) {
    pollfd poll{fd, POLLIN, 0};
    const int ready = ::poll(&poll, 1, deadline.poll_timeout_ms());
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return true;
    if (out.size() < kMaxOutput) out.append(buffer.data(), static_cast<std::size_t>(n));
  }
}

}  // namespace

Result<CommandResult> run_command(const std::vector<std::string>& words, Duration limit) {
  int fds[2] = {-1, -1};
  if (::pipe2(fds, O_CLOEXEC) < 0) return fail_errno("pipe", errno);
  const UniqueFd read_end(fds[0]);
  UniqueFd write_end(fds[1]);
  const pid_t pid = SM_TRY(start(words, write_end.get()));
  write_end.reset();
  CommandResult result;
  const bool ended = collect(read_end.get(), Deadline::after(limit), result.output);
  if (!ended) ::kill(pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!ended) return fail(Code::kTimeout, words.front() + " did not end in time");
  result.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return result;
}

}  // namespace sm
