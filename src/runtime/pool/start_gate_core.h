// StartGateCore: how many VMs may start at a time, and whether the host has the memory for another.
// A start holds its permit from its beginning until the VM answers; so a burst of starts becomes a
// steady flow instead of exhausting processes and memory. Decisions only: no threads, no clock, no
// /proc. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace sm {

enum class TicketId : std::uint64_t { kNone = 0 };

struct StartLimits {
  std::size_t permits = 16;  // starts at a time; 0: as many as there are
  // Whoever has waited this long for a permit starts all the same: a hanging start must not hold
  // up the rest for ever.
  Duration valve = std::chrono::seconds(120);
  std::uint64_t reserve_bytes = 256u << 20;  // of the host's available memory, never given to VMs
  Duration memory_patience = std::chrono::seconds(10);
};

class StartGateCore {
 public:
  struct Decision {
    TicketId ticket;
    std::optional<Error> refusal;  // nothing: start now
  };

  explicit StartGateCore(const StartLimits& limits) : limits_(limits) {}

  // Asks for a start of a VM with so much memory; decide() answers.
  TicketId request(std::uint64_t memory_bytes, TimePoint now);
  // The start is over, or nobody wants it any more. Any state.
  void finish(TicketId ticket);
  // What can be answered now. `available`: bytes of memory that the host could give away; nothing:
  // unknown, then memory is no criterion. A VM that is starting has not touched its memory yet, so
  // it is counted in full on top of what the host sees.
  std::vector<Decision> decide(TimePoint now, std::optional<std::uint64_t> available);
  // When to decide again although nothing was requested or finished.
  std::optional<TimePoint> next_decision() const;
  bool waiting() const { return !queue_.empty(); }

 private:
  struct Waiting {
    TicketId ticket;
    std::uint64_t bytes;
    TimePoint since;
    std::optional<TimePoint> short_of_memory_since;
  };
  bool may_start(const Waiting& start, TimePoint now) const;
  bool fits(const Waiting& start, std::optional<std::uint64_t> available) const;

  StartLimits limits_;
  std::deque<Waiting> queue_;
  std::map<TicketId, std::uint64_t> starting_;  // and the memory of each
  std::optional<TimePoint> next_;
  std::uint64_t next_ticket_ = 1;
};

}  // namespace sm
