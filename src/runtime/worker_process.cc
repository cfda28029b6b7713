#include "runtime/worker_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"

namespace sm {

namespace {

// Descriptors of the child. Everything else is close-on-exec.
constexpr int kControlFd = 3;
constexpr int kConfigFd = 4;
constexpr int kDiskFd = 5;
// dup2 onto itself would keep close-on-exec, so sources live above the targets.
constexpr int kFirstSourceFd = 10;

// Limit: so many pieces of 4 KiB are read from a worker that has ended.
constexpr int kLastWords = 16;

Code code_from_name(const std::string& name) {
  for (int i = 0; i <= static_cast<int>(Code::kInternal); ++i) {
    if (code_name(static_cast<Code>(i)) == name) return static_cast<Code>(i);
  }
  return Code::kInternal;
}

Result<UniqueFd> copy_up(const UniqueFd& fd) {
  UniqueFd copy(::fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirstSourceFd));
  if (!copy.valid()) return fail_errno("fcntl", errno);
  return copy;
}

Result<UniqueFd> move_up(UniqueFd fd) { return copy_up(fd); }

struct ChildFds {
  UniqueFd null, log, control, config, disk, disk_source;
};

class SpawnSettings {
 public:
  SpawnSettings() {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawnattr_init(&attributes_);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  SpawnSettings(SpawnSettings&&) = delete;
  SpawnSettings& operator=(SpawnSettings&&) = delete;
  ~SpawnSettings() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }

  // Own session: a Ctrl-C at the terminal is for the guest's program, never for the VM.
  Result<pid_t> spawn(const WorkerCommand& command, const ChildFds& fds) {
    const std::array<std::pair<int, int>, 5> map = {{{fds.null.get(), 0},
                                                     {fds.log.get(), 1},
                                                     {fds.log.get(), 2},
                                                     {fds.control.get(), kControlFd},
                                                     {fds.config.get(), kConfigFd}}};
    for (const auto& [from, to] : map) ::posix_spawn_file_actions_adddup2(&actions_, from, to);
    int next = kDiskFd;  // the source, if there is one, follows
    if (fds.disk.valid()) ::posix_spawn_file_actions_adddup2(&actions_, fds.disk.get(), next++);
    const bool copies = fds.disk_source.valid();
    if (copies) ::posix_spawn_file_actions_adddup2(&actions_, fds.disk_source.get(), next++);
    // What our own parent left open is none of the VM's business.
    ::posix_spawn_file_actions_addclosefrom_np(&actions_, next);
    sigset_t none, all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    ::posix_spawnattr_setflags(&attributes_,
                               POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
    std::vector<std::string> words = {"supermachine-worker", "--control=3",
                                      "--guest-config=/dev/fd/4"};
    if (fds.disk.valid()) words.emplace_back("--root-disk-fd=5");
    if (copies) words.emplace_back("--root-disk-from-fd=6");
    words.insert(words.end(), command.arguments.begin(), command.arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_t pid = -1;
    const int error =
        ::posix_spawn(&pid, command.program.c_str(), &actions_, &attributes_, argv.data(), environ);
    if (error != 0) return fail_errno("start " + command.program, error);
    return pid;
  }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

}  // namespace

Error error_from(const control::Failure& failure) {
  return Error(code_from_name(failure.code), failure.cause, failure.remedy);
}

Result<std::unique_ptr<WorkerProcess>> WorkerProcess::spawn(EventLoop& loop,
                                                            const WorkerCommand& command,
                                                            Callbacks callbacks) {
  int pair[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
    return fail_errno("socketpair", errno);
  }
  UniqueFd ours(pair[0]);
  UniqueFd theirs(pair[1]);
  SM_TRY_STATUS(set_nonblocking(ours.get(), true));
  UniqueFd log = SM_TRY(open_file(command.log_file, O_WRONLY | O_CREAT | O_APPEND, 0600));
  UniqueFd null = SM_TRY(open_file("/dev/null", O_RDONLY));
  UniqueFd config = SM_TRY(memory_file("guest-config", as_byte_span(command.guest_config)));
  ChildFds fds;
  fds.null = SM_TRY(move_up(std::move(null)));
  fds.log = SM_TRY(move_up(std::move(log)));
  fds.control = SM_TRY(move_up(std::move(theirs)));
  fds.config = SM_TRY(move_up(std::move(config)));
  if (command.root_disk) fds.disk = SM_TRY(copy_up(*command.root_disk));
  if (command.root_disk_source) fds.disk_source = SM_TRY(copy_up(*command.root_disk_source));
  const pid_t pid = SM_TRY(SpawnSettings().spawn(command, fds));
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) {
    const int e = errno;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return fail_errno("pidfd_open", e);
  }
  std::unique_ptr<WorkerProcess> worker(
      new WorkerProcess(loop, pid, std::move(pidfd), std::move(ours), std::move(callbacks)));
  SM_TRY_STATUS(worker->watch());
  worker->send(control::Hello{control::kVersion, "supermachine " SM_VERSION});
  return worker;
}

WorkerProcess::WorkerProcess(EventLoop& loop, pid_t pid, UniqueFd pidfd, UniqueFd control,
                             Callbacks callbacks)
    : loop_(loop),
      pid_(pid),
      pidfd_(std::move(pidfd)),
      control_(std::move(control)),
      callbacks_(std::move(callbacks)) {}

WorkerProcess::~WorkerProcess() {
  loop_.remove(control_watch_);
  loop_.remove(pidfd_watch_);
  if (!reaped_) {
    kill();
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
}

Status WorkerProcess::watch() {
  control_watch_ =
      SM_TRY(loop_.add(control_.get(), EPOLLIN, [this](std::uint32_t) { on_control(); }));
  pidfd_watch_ = SM_TRY(loop_.add(pidfd_.get(), EPOLLIN, [this](std::uint32_t) { on_pidfd(); }));
  return {};
}

// A handful of messages in a VM's life: the socket buffer has room for them, or the worker hangs.
void WorkerProcess::send(const control::Message& message) {
  const auto bytes = control::encode(message);
  const ssize_t n = ::send(control_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  const bool sent = n == static_cast<ssize_t>(bytes.size());
  if (!sent && (n >= 0 || errno == EAGAIN)) kill();
}

Status WorkerProcess::request(const control::Message& message, std::span<const int> descriptors) {
  constexpr std::size_t kMost = 8;
  if (descriptors.size() > kMost) return fail(Code::kInternal, "too many descriptors");
  auto bytes = control::encode(message);
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMost * sizeof(int))> ancillary{};
  iovec piece{bytes.data(), bytes.size()};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = ancillary.data();
  header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
  std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size_bytes());
  const ssize_t n = ::sendmsg(control_.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n == static_cast<ssize_t>(bytes.size())) return {};
  kill();  // half a message: nothing sensible can follow
  return fail_errno("send to the worker", n < 0 ? errno : EIO);
}

void WorkerProcess::request_stop() { send(control::Stop{}); }

void WorkerProcess::kill() {
  if (!reaped_) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
}

void WorkerProcess::on_control() {
  std::array<std::byte, 4096> buffer;
  const ssize_t n = ::recv(control_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    // The worker is ending; its exit status tells the rest.
    stop_listening();
    return;
  }
  parser_.feed(std::span(buffer).first(static_cast<std::size_t>(n)));
  for (;;) {
    auto message = parser_.next();
    if (!message) return fail_with(std::move(message).error());
    if (!message->has_value()) return;
    handle(**message);
  }
}

void WorkerProcess::handle(const control::Message& message) {
  if (const auto* event = std::get_if<control::Event>(&message)) {
    callbacks_.on_event(*event);
  } else if (const auto* failure = std::get_if<control::Failure>(&message)) {
    callbacks_.on_failure(error_from(*failure));
  } else if (const auto* done = std::get_if<control::Done>(&message)) {
    if (callbacks_.on_done) callbacks_.on_done(*done);
  } else if (const auto* refused = std::get_if<control::Refused>(&message)) {
    if (callbacks_.on_refused) callbacks_.on_refused(*refused);
  }
}

void WorkerProcess::stop_listening() {
  loop_.remove(std::exchange(control_watch_, WatchId::kNone));
}

void WorkerProcess::fail_with(Error error) {
  stop_listening();
  kill();
  callbacks_.on_failure(std::move(error));
}

void WorkerProcess::on_pidfd() {
  // What the worker said before it ended comes first.
  for (int i = 0; i < kLastWords && control_watch_ != WatchId::kNone; ++i) on_control();
  int status = 0;
  const pid_t reaped = ::waitpid(pid_, &status, WNOHANG);
  // A program that ignores SIGCHLD, or waits for any child, has taken the status away.
  if (reaped != pid_ && !(reaped < 0 && errno == ECHILD)) return;
  reaped_ = true;
  loop_.remove(pidfd_watch_);
  callbacks_.on_exit(status);
}

}  // namespace sm
