// What PID 1 does once the machine is set up: starts the agent, reaps, forwards signals, reports.
// One thread, no handlers: all signals are blocked and read from a signalfd.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "common/doorbell_port.h"
#include "common/init_link.h"

namespace sm::guest {

// Blocks every signal for this process, the first thing init does.
void block_signals();

struct AgentProcess {
  pid_t pid = -1;
  UniqueFd link;
};
// Runs the agent's binary from an open descriptor: nothing of ours exists in the image, and the
// image cannot put something else in its place.
// `layers`: the folder in which the layers are mounted (root.h).
Result<AgentProcess> start_agent(int executable, int layers, const AgentSettings& settings);

class Supervisor {
 public:
  Supervisor(const DoorbellPort& bell, AgentProcess agent);

  // Until the workload has ended: its exit status. An error means that the agent is gone.
  Result<std::uint32_t> run();

 private:
  Status handle_signals();
  Status reap();
  Status handle_link();
  Status handle_message(const LinkMessage& message);

  const DoorbellPort& bell_;
  AgentProcess agent_;
  UniqueFd signals_;
  Deadline ready_deadline_;
  bool ready_ = false;
  bool finished_ = false;
  std::uint32_t status_ = 0;
};

}  // namespace sm::guest
