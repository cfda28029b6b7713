// The main workload of this VM and the agent's side of the link to init. The loop's thread only.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "agent/fd_watch.h"
#include "agent/process_table.h"
#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "common/environment.h"
#include "common/init_link.h"
#include "proto/agent.h"

namespace sm::guest {

// What an exec gets when its request does not say otherwise.
struct ExecDefaults {
  Words env;
  std::string cwd = "/";
  std::string user;
  agent::ProcessSettings settings;
};

class Workload {
 public:
  // Without init at the other end there is nothing left to live for: the loop is stopped.
  Workload(EventLoop& loop, ProcessTable& processes, UniqueFd link, AgentSettings settings);
  ~Workload() { wipe(secrets_); }
  Workload(const Workload&) = delete;
  Workload& operator=(const Workload&) = delete;

  Status report_ready();

  // Takes the one place of the main workload and its request's defaults; false when it is taken.
  bool claim(const agent::ExecRequest& request);
  // Its program is prepared: tells init, and calls `release` when init has reported it.
  void announce(std::function<void()> release);
  // Its program runs: signals that init receives go to this process group.
  void set_process(pid_t pid) { pid_ = pid; }
  // To its process group; false when none runs.
  bool signal(int number);
  void set_status(std::uint32_t status) { status_ = status; }
  // Everything was said about it and its connection is closed: init ends the machine.
  void close();

  const ExecDefaults& defaults() const { return defaults_; }
  const std::string& hostname() const { return hostname_; }
  // Lines that init or a resume has added to /etc/hosts.
  const std::vector<HostEntry>& hosts() const { return hosts_; }
  // The environment of a program: defaults, secrets, then the request's own. The request of the
  // main workload is part of the defaults and so stands below the secrets: it carries the image's
  // variables. wipe() the result after use.
  Words environment_for(const agent::ExecRequest& request) const;
  // What a resume changes for later programs. Its secrets take the place of earlier ones.
  void resume(const agent::ResumeRequest& request);

 private:
  void on_link();

  EventLoop& loop_;
  ProcessTable& processes_;
  UniqueFd link_;
  std::unique_ptr<FdWatch> watch_;
  std::string hostname_;
  std::vector<HostEntry> hosts_;
  ExecDefaults defaults_;
  Words secrets_;
  std::function<void()> release_;
  bool claimed_ = false;
  pid_t pid_ = -1;
  std::uint32_t status_ = 128 + 9;  // unless it reports another: it was killed
};

}  // namespace sm::guest
