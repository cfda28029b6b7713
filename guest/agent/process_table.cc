#include "agent/process_table.h"

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace sm::guest {

namespace {

struct Forked {
  pid_t pid;
  int pidfd;
};

// fork that also gives a pidfd and puts the child into its cgroup before it runs.
Forked fork_into(const Cgroup& cgroup) {
  int pidfd = -1;
  clone_args args{};
  std::uint64_t flags = CLONE_PIDFD;
  args.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  if (cgroup.dir.valid()) {
    flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<__u64>(cgroup.dir.get());
  }
  args.flags = flags;
  const auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &args, sizeof(args)));
  return {pid, pidfd};
}

}  // namespace

ProcessTable::ProcessTable(EventLoop& loop, const std::string& cgroup_base)
    : loop_(loop), cgroups_(cgroup_base) {}

ProcessTable::~ProcessTable() {
  for (auto& [pid, entry] : entries_) {
    kill_all(pid);
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
  }
}

Result<pid_t> ProcessTable::start(const ChildMain& child_main, OnEnd on_end) {
  Cgroup cgroup = cgroups_.make();
  const Forked forked = fork_into(cgroup);
  if (forked.pid < 0) {
    const int error = errno;
    cgroups_.retire(std::move(cgroup));
    return fail_errno("start a process", error);
  }
  if (forked.pid == 0) {
    child_main();
    ::_exit(127);
  }
  const pid_t pid = forked.pid;
  Entry& entry = entries_[pid];
  entry.pidfd = UniqueFd(forked.pidfd);
  entry.cgroup = std::move(cgroup);
  entry.on_end = std::move(on_end);
  entry.watch =
      std::make_unique<FdWatch>(loop_, forked.pidfd, [this, pid](std::uint32_t) { on_exit(pid); });
  entry.watch->want(EPOLLIN);
  return pid;
}

void ProcessTable::on_exit(pid_t pid) {
  const auto it = entries_.find(pid);
  int status = 0;
  rusage usage{};
  if (it == entries_.end() || ::wait4(pid, &status, WNOHANG, &usage) != pid) return;
  // Out of the table first: the callback may start further processes.
  Entry entry = std::move(it->second);
  entries_.erase(it);
  entry.watch.reset();
  cgroups_.retire(std::move(entry.cgroup));
  if (entry.on_end) entry.on_end({status, static_cast<std::uint64_t>(usage.ru_maxrss)});
}

void ProcessTable::signal_group(pid_t pid, int signal) {
  if (entries_.count(pid) != 0) ::kill(-pid, signal);
}

void ProcessTable::kill_all(pid_t pid) {
  const auto it = entries_.find(pid);
  if (it == entries_.end()) return;
  // The process itself too: it may not have made its own group yet.
  ::kill(pid, SIGKILL);
  ::kill(-pid, SIGKILL);
  CgroupPool::kill(it->second.cgroup);
}

void ProcessTable::hand_over(pid_t pid, OnEnd on_end) {
  const auto it = entries_.find(pid);
  if (it != entries_.end()) it->second.on_end = std::move(on_end);
}

void ProcessTable::forget(pid_t pid) {
  const auto it = entries_.find(pid);
  if (it != entries_.end()) it->second.on_end = nullptr;
}

}  // namespace sm::guest
