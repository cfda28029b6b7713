#include "init/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "base/bytes.h"
#include "base/file.h"
#include "common/warm_files.h"
#include "init/console.h"

namespace sm::guest {

namespace {

constexpr auto kReadyTimeout = std::chrono::seconds(30);

constexpr int kForwarded[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};

void warm_image() {
  if (const auto root = open_file("/", O_PATH | O_DIRECTORY)) warm_files(root->get());
}

UniqueFd open_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGCHLD);
  for (const int signal : kForwarded) ::sigaddset(&set, signal);
  return UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

// A failed start must not be silent, but there is nothing else the child could do about it.
[[noreturn]] void child_failed(std::string_view what) {
  console_line(Error::from_errno(what, errno).text());
  ::_exit(127);
}

[[noreturn]] void run_agent(int executable, int link, int settings, int layers) {
  ::setsid();
  // The kernel's out-of-memory killer takes the workload, never the agent.
  if (const auto fd = open_file("/proc/self/oom_score_adj", O_WRONLY)) {
    static_cast<void>(write_all(fd->get(), as_byte_span("-1000")));
  }
  // Out of the way of the numbers that the agent expects.
  const int high_executable = ::fcntl(executable, F_DUPFD_CLOEXEC, 10);
  const int high_link = ::fcntl(link, F_DUPFD_CLOEXEC, 10);
  const int high_settings = ::fcntl(settings, F_DUPFD_CLOEXEC, 10);
  const int high_layers = ::fcntl(layers, F_DUPFD_CLOEXEC, 10);
  if (::dup2(high_link, kAgentLinkFd) < 0 || ::dup2(high_settings, kAgentSettingsFd) < 0 ||
      ::dup2(high_layers, kAgentLayersFd) < 0) {
    child_failed("dup2 for the agent");
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  char name[] = "supermachine-agent";
  char* argv[] = {name, nullptr};
  char* envp[] = {nullptr};
  ::execveat(high_executable, "", argv, envp, AT_EMPTY_PATH);
  child_failed("exec of the agent");
}

std::string describe_end(int status) {
  if (WIFSIGNALED(status)) return "by signal " + std::to_string(WTERMSIG(status));
  return "with status " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

void block_signals() {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
}

Result<AgentProcess> start_agent(int executable, int layers, const AgentSettings& settings) {
  LinkEnds ends = SM_TRY(make_link());
  const UniqueFd memory = SM_TRY(memory_file("settings", encode_settings(settings)));
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno("fork", errno);
  if (pid == 0) run_agent(executable, ends.agent.get(), memory.get(), layers);
  return AgentProcess{pid, std::move(ends.init)};
}

Supervisor::Supervisor(const DoorbellPort& bell, AgentProcess agent)
    : bell_(bell),
      agent_(std::move(agent)),
      signals_(open_signals()),
      ready_deadline_(Deadline::after(kReadyTimeout)) {}

Result<std::uint32_t> Supervisor::run() {
  if (!signals_.valid()) return fail_errno("signalfd", errno);
  while (!finished_) {
    pollfd waiting[2] = {{signals_.get(), POLLIN, 0}, {agent_.link.get(), POLLIN, 0}};
    const int timeout = ready_ ? -1 : ready_deadline_.poll_timeout_ms();
    if (::poll(waiting, 2, timeout) < 0 && errno != EINTR) return fail_errno("poll", errno);
    // What the agent said before it ended counts.
    SM_TRY_STATUS(handle_link());
    if (!finished_) SM_TRY_STATUS(handle_signals());
    if (!ready_ && ready_deadline_.passed()) {
      return fail(Code::kTimeout, "the agent did not become ready");
    }
  }
  return status_;
}

Status Supervisor::handle_signals() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    if (info.ssi_signo == SIGCHLD) {
      SM_TRY_STATUS(reap());
    } else {
      // A failure means a full queue of signals or a dead agent; the latter shows as SIGCHLD.
      static_cast<void>(send_link(agent_.link.get(), {LinkType::kSignal, info.ssi_signo}));
    }
  }
  return {};
}

Status Supervisor::reap() {
  for (;;) {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    if (pid <= 0) return {};
    if (pid == agent_.pid) return fail(Code::kGone, "the agent ended " + describe_end(status));
  }
}

Status Supervisor::handle_link() {
  for (;;) {
    auto message = receive_link(agent_.link.get());
    if (!message) {
      if (message.error().code() != Code::kGone) return fail(std::move(message).error());
      // The agent closes its end only by ending; say how, the wait is short.
      int status = 0;
      if (::waitpid(agent_.pid, &status, 0) != agent_.pid) return fail(std::move(message).error());
      return fail(Code::kGone, "the agent ended " + describe_end(status));
    }
    if (!*message) return {};
    SM_TRY_STATUS(handle_message(**message));
    if (finished_) return {};
  }
}

Status Supervisor::handle_message(const LinkMessage& message) {
  switch (message.type) {
    case LinkType::kReady:
      ready_ = true;
      if (bell_.will_be_saved_at(doorbell::Event::kAgentReady)) warm_image();
      bell_.ring(doorbell::Event::kAgentReady);
      return {};
    case LinkType::kWorkloadStart:
      bell_.ring(doorbell::Event::kWorkloadStart);
      return send_link(agent_.link.get(), {LinkType::kRelease});
    case LinkType::kWorkloadExit:
      finished_ = true;
      status_ = message.value & 0xff;
      return {};
    case LinkType::kRelease:
    case LinkType::kSignal:
      break;
  }
  return fail(Code::kInternal, "the agent sent a message of init's own");
}

}  // namespace sm::guest
