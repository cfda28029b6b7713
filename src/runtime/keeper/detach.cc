#include "runtime/keeper/detach.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/file.h"
#include "runtime/keeper/keeper_protocol.h"

namespace sm {

namespace {

// What the shell or another parent has left open, not ours, which are all closed on exec: a pipe
// among them would not end before the VM does.
void close_strangers() {
  std::vector<int> strangers;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", ignored)) {
    const int fd = std::atoi(entry.path().filename().c_str());
    if (fd > STDERR_FILENO && (::fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0) strangers.push_back(fd);
  }
  for (const int fd : strangers) ::close(fd);
}

// No terminal, no folder, none of the shell's streams.
bool let_go() {
  close_strangers();
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY));
  bool good = null.valid() && ::setsid() >= 0 && ::chdir("/") == 0;
  for (int fd = 0; good && fd <= 2; ++fd) good = ::dup2(null.get(), fd) == fd;
  return good;
}

// Hands on what asks for the end until the pipe can be read.
void wait_for_report(int pipe, pid_t child, const SessionSignals& signals) {
  for (;;) {
    std::array<pollfd, 2> both = {{{pipe, POLLIN, 0}, {signals.fd(), POLLIN, 0}}};
    if (::poll(both.data(), both.size(), -1) < 0 && errno != EINTR) return;
    if ((both[1].revents & POLLIN) != 0) {
      const int number = signals.next();
      if (number == SIGINT || number == SIGTERM || number == SIGHUP) ::kill(child, number);
    }
    if (both[0].revents != 0) return;
  }
}

Result<SessionOutcome> read_report(int pipe) {
  std::vector<std::byte> bytes;
  for (;;) {
    std::array<std::byte, 4096> buffer;
    const ssize_t n = ::read(pipe, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail(Code::kGone, "the process that was to keep the VM has ended");
    bytes.insert(bytes.end(), buffer.begin(), buffer.begin() + n);
    const auto message = SM_TRY(take_message(bytes));
    if (!message) continue;
    KeeperReply reply = SM_TRY(decode_reply(*message));
    return SessionOutcome{reply.status, std::move(reply.error)};
  }
}

}  // namespace

void ReadyPipe::report(const std::optional<SessionOutcome>& failure) {
  if (!fd_.valid()) return;
  KeeperReply reply;
  if (failure) {
    reply.error = failure->error;
    reply.status = failure->status & 0xFF;
  }
  // The parent may have been killed; the VM runs all the same.
  static_cast<void>(write_all(fd_.get(), encode_reply(reply)));
  fd_.reset();
}

Result<SessionOutcome> run_detached(const SessionSignals& signals,
                                    const std::function<void(ReadyPipe&)>& body) {
  int fds[2] = {-1, -1};
  if (::pipe2(fds, O_CLOEXEC) < 0) return fail_errno("pipe", errno);
  const UniqueFd read_end(fds[0]);
  UniqueFd write_end(fds[1]);
  ::fflush(nullptr);  // or the child would say it again
  const pid_t child = ::fork();
  if (child < 0) return fail_errno("fork", errno);
  if (child == 0) {
    ReadyPipe pipe(std::move(write_end));
    if (let_go()) {
      body(pipe);
    } else {
      pipe.report(SessionOutcome{125, Error::from_errno("leave the terminal", errno)});
    }
    ::_exit(0);
  }
  write_end.reset();
  wait_for_report(read_end.get(), child, signals);
  return read_report(read_end.get());
}

}  // namespace sm
