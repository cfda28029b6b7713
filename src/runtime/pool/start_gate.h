// StartGate: StartGateCore on an event loop, with this host's memory. One per process is what makes
// its limits mean something; it is an object that is handed to whoever starts VMs. Thread: the
// loop's.
#pragma once

#include <functional>
#include <map>
#include <optional>

#include "base/event_loop.h"
#include "runtime/pool/start_gate_core.h"

namespace sm {

// Bytes of memory the host could give away; nothing when it does not say.
using MemoryProbe = std::function<std::optional<std::uint64_t>()>;
// MemAvailable of /proc/meminfo.
std::optional<std::uint64_t> available_memory();
// 16, or four for each CPU when that is more.
std::size_t default_start_permits();

class StartGate {
 public:
  // Nothing: start now. The call comes from the loop, never from within request().
  using Answer = std::function<void(std::optional<Error> refusal)>;

  StartGate(EventLoop& loop, const StartLimits& limits, MemoryProbe memory);
  ~StartGate();
  StartGate(const StartGate&) = delete;
  StartGate& operator=(const StartGate&) = delete;
  StartGate(StartGate&&) = delete;
  StartGate& operator=(StartGate&&) = delete;

  TicketId request(std::uint64_t memory_bytes, Answer answer);
  // The start is over; before the answer: it will not come.
  void finish(TicketId ticket);

 private:
  void decide_soon();
  void decide();

  EventLoop& loop_;
  StartGateCore core_;
  MemoryProbe memory_;
  std::map<TicketId, Answer> answers_;
  TimerId timer_ = TimerId::kNone;
};

}  // namespace sm
