// The agent's end of a child's status channel.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "agent/child.h"
#include "agent/fd_watch.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/agent.h"

namespace sm::guest {

class ChildChannel {
 public:
  struct Report {
    ChildReport kind;
    std::uint64_t size = 0;
    agent::ErrorReport error;
    agent::StepReport step;
  };
  // Called per report, and once with nothing at the end of the channel.
  using Callback = std::function<void(std::optional<Report>)>;

  ChildChannel(EventLoop& loop, Callback callback);

  // Creates the channel; the result is the child's end.
  Result<UniqueFd> open();
  // Lets a prepared child go on.
  void release();
  // Reads what is there now: after the child's end that is everything.
  void drain();
  bool closed() const { return !fd_.valid(); }

 private:
  EventLoop& loop_;
  Callback callback_;
  UniqueFd fd_;
  std::unique_ptr<FdWatch> watch_;
};

}  // namespace sm::guest
