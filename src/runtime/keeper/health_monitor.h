// HealthMonitor: runs a VM's health check again and again, in the VM, while its command runs.
// Thread: the loop's.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/event_loop.h"
#include "runtime/exec_session.h"
#include "runtime/health_check.h"

namespace sm {

class HealthMonitor {
 public:
  struct Host {
    // A VM that stands still cannot answer: nothing is asked, no time runs out.
    std::function<bool()> is_paused;
    // Also after each check that changed nothing but the number of failures in a row.
    std::function<void(Health health, std::uint32_t failures)> on_result;
  };

  // The first check comes after one interval. `exec_socket` is the agent's.
  HealthMonitor(EventLoop& loop, std::string exec_socket, HealthCheck check, Host host);
  ~HealthMonitor();
  HealthMonitor(const HealthMonitor&) = delete;
  HealthMonitor& operator=(const HealthMonitor&) = delete;
  HealthMonitor(HealthMonitor&&) = delete;
  HealthMonitor& operator=(HealthMonitor&&) = delete;

 private:
  void arm(Duration wait, std::function<void()> then);
  void begin();
  void on_timeout();
  void end(bool passed);

  EventLoop& loop_;
  const std::string exec_socket_;
  const HealthCheck check_;
  const Host host_;
  const TimePoint start_ = now();
  HealthTally tally_;
  TimerId timer_ = TimerId::kNone;
  std::unique_ptr<ExecSession> session_;
  std::unique_ptr<ExecSession> over_;  // the one before; it may have called us
};

}  // namespace sm
