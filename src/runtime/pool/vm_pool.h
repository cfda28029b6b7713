// VmPool: PoolCore with a lock, a loop, a clock and VMs. Callers take and return VMs from any
// thread; an idle VM is handed over in the caller's own, without waiting for the loop. VMs are
// started and stopped on the loop only.
//
// It lives until it is closed and its last VM is gone; close() does not end VMs that are leased.
// When the loop is stopped, everything ends.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "runtime/loop_thread.h"
#include "runtime/pool/pool_core.h"
#include "runtime/pool/start_gate.h"
#include "runtime/vm/started_vm.h"

namespace sm {

class VmPool;

// A VM of a pool in the hands of a caller. Its end gives the VM back. Any thread, one at a time.
class VmLease {
 public:
  VmLease() = default;
  VmLease(VmLease&& other) noexcept = default;
  VmLease& operator=(VmLease&& other) noexcept;
  VmLease(const VmLease&) = delete;
  VmLease& operator=(const VmLease&) = delete;
  ~VmLease() { release(); }

  bool valid() const { return pool_ != nullptr; }
  const std::shared_ptr<VmEndpoint>& endpoint() const { return endpoint_; }
  void release();

 private:
  friend class VmPool;
  VmLease(std::shared_ptr<VmPool> pool, PoolVmId vm, std::shared_ptr<VmEndpoint> endpoint)
      : pool_(std::move(pool)), vm_(vm), endpoint_(std::move(endpoint)) {}

  std::shared_ptr<VmPool> pool_;
  PoolVmId vm_{};
  std::shared_ptr<VmEndpoint> endpoint_;
};

class VmPool : public std::enable_shared_from_this<VmPool> {
 public:
  using Done = std::function<void(Result<VmLease>)>;

  // `loop` and `gate` outlive every use of the pool; `gate` belongs to the loop's thread.
  static Result<std::shared_ptr<VmPool>> create(LoopThread& loop, StartGate& gate,
                                                std::unique_ptr<VmStarter> starter,
                                                const PoolLimits& limits);
  ~VmPool();
  VmPool(const VmPool&) = delete;
  VmPool& operator=(const VmPool&) = delete;
  VmPool(VmPool&&) = delete;
  VmPool& operator=(VmPool&&) = delete;

  // An idle VM, if there is one.
  std::optional<VmLease> try_acquire();
  // Calls `done` once: on the loop, or within this call when the loop is being stopped.
  void acquire(Done done);
  void close();
  PoolStats stats() const;

 private:
  friend class VmLease;
  struct Entry {
    TicketId ticket = TicketId::kNone;  // of its start, until that is over
    std::unique_ptr<StartedVm> vm;
    std::shared_ptr<VmEndpoint> endpoint;
    bool ready = false;
  };

  VmPool(LoopThread& loop, StartGate& gate, std::unique_ptr<VmStarter> starter,
         const PoolLimits& limits);
  void attach();
  void release(PoolVmId vm, bool usable);
  void pump_locked();
  void run_actions();
  void perform(PoolCore::Action& action);
  void begin_start(PoolVmId id);
  void start_now(PoolVmId id, std::optional<Error> refusal);
  void stop(PoolVmId id);
  void grant(const PoolCore::Grant& grant);
  void refuse(PoolCore::Refuse& refusal);
  void on_ready(PoolVmId id);
  void on_end(PoolVmId id, const Error& why);
  void finish_start(Entry& entry);
  void forget(PoolVmId id);
  void arm_timer();
  void detach_if_over();
  void on_loop_stop();
  VmLease lease_locked(PoolVmId id);
  std::optional<Done> take_waiter(WaiterId id);

  LoopThread& loop_;
  StartGate& gate_;
  std::unique_ptr<VmStarter> starter_;  // the loop's

  mutable std::mutex mutex_;
  PoolCore core_;
  std::deque<PoolCore::Action> actions_;  // in the order of the core's decisions
  bool scheduled_ = false;                // run_actions() is on its way
  bool dead_ = false;                     // closed with nothing left, or the loop is gone
  std::map<WaiterId, Done> waiters_;
  std::map<PoolVmId, std::shared_ptr<VmEndpoint>> endpoints_;  // of VMs that are ready

  // The loop's.
  std::map<PoolVmId, Entry> entries_;
  std::optional<TimePoint> armed_for_;
  TimerId timer_ = TimerId::kNone;
  HookId hook_ = HookId::kNone;
};

}  // namespace sm
