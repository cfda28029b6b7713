// MainSignal: a signal for the main workload of a VM, whoever started it: also one that ran in the
// snapshot that the VM was restored from. Thread: the loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"
#include "runtime/client/agent_link.h"
#include "runtime/loop_thread.h"
#include "runtime/vm/started_vm.h"

namespace sm {

class MainSignal {
 public:
  // Called once, unless the object is destroyed before, and may destroy it. kNotFound: no main
  // workload runs; kInternal: the guest's agent, of an older snapshot, cannot do it; kGone.
  using Done = std::function<void(Status)>;

  // `number`: 1 to 64.
  static Result<std::unique_ptr<MainSignal>> send(EventLoop& loop, const std::string& socket,
                                                  std::uint32_t number, Done done);

 private:
  explicit MainSignal(Done done) : done_(std::move(done)) {}
  void finish(Status status);

  Done done_;
  std::unique_ptr<AgentLink> link_;
};

// The same for who is not on the loop. `done` is called on it, or within the call when it is gone.
void signal_main(const std::shared_ptr<LoopThread>& loop, const std::shared_ptr<VmEndpoint>& vm,
                 std::uint32_t number, MainSignal::Done done);

}  // namespace sm
