// PoolCore: the decisions of a pool of VMs, without threads, processes or a clock of its own. It is
// told what happened and when, and says what to do; the VMs and the callers are numbers.
//
//             +-> starting --ready--> idle --acquire--> leased --release--> (kept: idle)
//   (demand) -+       |                |                  |
//                     +--------- stop: stopping <---------+        every state --gone--> removed
//
// The number of VMs, those that are being stopped included, never exceeds `max`. Callers that wait
// are served in the order in which they came. Not thread-safe: its owner locks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace sm {

enum class PoolVmId : std::uint64_t {};
enum class WaiterId : std::uint64_t {};

struct PoolLimits {
  std::size_t min = 0;  // so many VMs are kept idle, as far as max allows
  std::size_t max = 1;  // VMs at a time; at least 1 and at least min
  // Idle VMs beyond min end after this time; nothing: never.
  std::optional<Duration> idle_timeout = std::chrono::seconds(60);
  Duration acquire_timeout = std::chrono::seconds(30);
  // A VM that comes back is replaced by a fresh one; false: it is handed out again as it is.
  bool restore_on_release = true;
  // So many failed starts in a row are no accident: whoever waits is refused with the reason.
  std::uint32_t hopeless_after = 3;
};
Status check_limits(const PoolLimits& limits);

struct PoolStats {
  std::size_t alive = 0;  // starting, idle and leased
  std::size_t starting = 0;
  std::size_t idle = 0;
  std::size_t leased = 0;
  std::size_t stopping = 0;
  std::size_t waiting = 0;  // callers
  std::size_t min = 0;
  std::size_t max = 0;
  std::uint64_t started = 0;        // VMs that became ready
  std::uint64_t failed = 0;         // starts that failed
  std::uint64_t died = 0;           // VMs that ended without being told to
  std::uint64_t acquired = 0;       // hand-overs
  std::uint64_t acquired_warm = 0;  // of these: at once, without waiting
  std::uint64_t timed_out = 0;      // acquires
};

class PoolCore {
 public:
  struct StartVm {
    PoolVmId vm;
  };
  struct StopVm {
    PoolVmId vm;
  };
  struct Grant {
    WaiterId waiter;
    PoolVmId vm;
  };
  struct Refuse {
    WaiterId waiter;
    Error error;
  };
  using Action = std::variant<StartVm, StopVm, Grant, Refuse>;

  PoolCore(const PoolLimits& limits, TimePoint now);

  // A VM at once, if one is idle and nobody waits; it is leased then.
  std::optional<PoolVmId> try_acquire(TimePoint now);
  // Answered by Grant or Refuse, at the latest when acquire_timeout is over.
  WaiterId acquire(TimePoint now);
  // A waiter that lost interest. False: it has been answered already.
  bool cancel(WaiterId waiter, TimePoint now);
  // A leased VM comes back. Nothing happens if it is gone.
  // `usable`: for the next one; else it is stopped in any case.
  void release(PoolVmId vm, bool usable, TimePoint now);

  // What became of StartVm and StopVm. Unknown numbers are ignored.
  void on_ready(PoolVmId vm, TimePoint now);
  void on_failed(PoolVmId vm, const Error& why, TimePoint now);  // never became ready; it is gone
  void on_gone(PoolVmId vm, TimePoint now);                      // after it was ready or stopped

  // Deadlines that have passed. Call when next_deadline() is reached.
  void on_time(TimePoint now);
  std::optional<TimePoint> next_deadline() const;

  // No more starts and hand-overs: waiters are refused, VMs that are not leased are stopped, leased
  // ones when they are released.
  void close(TimePoint now);
  bool closed() const { return closed_; }
  // No VM is left.
  bool empty() const { return vms_.empty(); }

  // What is to be done now, in order. The owner carries all of it out.
  std::vector<Action> take_actions();
  PoolStats stats() const;

 private:
  enum class State : std::uint8_t { kStarting, kIdle, kLeased, kStopping };
  struct Vm {
    State state = State::kStarting;
    TimePoint idle_since;
  };
  struct Waiter {
    WaiterId id;
    TimePoint deadline;
  };

  std::size_t count(State state) const;
  void lease(PoolVmId id, Vm& vm);
  void make_idle(PoolVmId id, Vm& vm, TimePoint now);
  void stop(PoolVmId id, Vm& vm);
  void start_wanted(TimePoint now);
  void expire_waiters(TimePoint now);
  void evict_idle(TimePoint now);
  void refuse_all(const Error& error);

  PoolLimits limits_;
  std::map<PoolVmId, Vm> vms_;
  std::deque<PoolVmId> idle_;  // longest idle first; handed out from the back
  std::deque<Waiter> waiters_;
  std::vector<Action> actions_;
  std::uint64_t next_vm_ = 1;
  std::uint64_t next_waiter_ = 1;
  std::uint32_t failures_ = 0;  // in a row
  std::optional<TimePoint> retry_at_;
  std::string last_failure_;  // empty after a success
  PoolStats totals_;
  bool closed_ = false;
};

}  // namespace sm
