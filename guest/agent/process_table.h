// Every child of the agent: started in its own cgroup, watched by pidfd, reaped once, with its
// exact status. The loop's thread only.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "agent/cgroup.h"
#include "agent/fd_watch.h"
#include "base/event_loop.h"
#include "base/result.h"

namespace sm::guest {

struct ProcessEnd {
  int wait_status = 0;
  std::uint64_t peak_rss_kib = 0;
};

class ProcessTable {
 public:
  using ChildMain = std::function<void()>;
  using OnEnd = std::function<void(const ProcessEnd&)>;

  ProcessTable(EventLoop& loop, const std::string& cgroup_base);
  // Kills and reaps what is left.
  ~ProcessTable();
  ProcessTable(const ProcessTable&) = delete;
  ProcessTable& operator=(const ProcessTable&) = delete;

  // Forks; `child_main` runs in the child and must not return. `on_end` is called once.
  Result<pid_t> start(const ChildMain& child_main, OnEnd on_end);
  // To the process group of a process that has not ended yet; nothing otherwise.
  void signal_group(pid_t pid, int signal);
  // SIGKILL to its group and to everything in its cgroup.
  void kill_all(pid_t pid);
  // Nobody but `on_end` has to do with it any more.
  void hand_over(pid_t pid, OnEnd on_end);
  // Its on_end will not be called any more; it is still reaped.
  void forget(pid_t pid);

  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    UniqueFd pidfd;
    Cgroup cgroup;
    OnEnd on_end;
    std::unique_ptr<FdWatch> watch;  // last: it uses pidfd
  };

  void on_exit(pid_t pid);

  EventLoop& loop_;
  CgroupPool cgroups_;
  std::unordered_map<pid_t, Entry> entries_;
};

}  // namespace sm::guest
