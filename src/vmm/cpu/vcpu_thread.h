// VcpuThread: one vCPU and the thread that runs it.
//
//              resume()                     pause(), hold, end of the guest
//   parked  ------------->  in the guest  ----------------------------------->  parked
//      \                                                                          /
//       '--------------------------- stop(): stopped, joined --------------------'
//
// Any thread may call any function here unless it says otherwise; no call blocks without a
// deadline.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>

#include "base/clock.h"
#include "base/result.h"
#include "vmm/bus/bus.h"
#include "vmm/cpu/engine.h"
#include "vmm/cpu/vcpu_hold.h"

namespace sm {

enum class VcpuEnd : std::uint8_t {
  kShutdown,  // triple fault or a reset request of the CPU itself
  kFault,     // the engine cannot go on
};

// How often a vCPU came out of the guest, by the kind of its VcpuExit.
using VcpuExitCounts = std::array<std::uint64_t, std::variant_size_v<VcpuExit>>;

struct VcpuStats {
  VcpuExitCounts exits{};
  std::optional<VcpuCounters> counters;  // as far as the engine counts
  // By name; see docs/reference/control-protocol.md.
  std::map<std::string, std::uint64_t> by_name() const;
};

class VcpuEvents {
 public:
  virtual ~VcpuEvents() = default;
  // The vCPU will execute nothing more; its thread parks and waits for stop(). Called on the vCPU's
  // thread, at most once in a VcpuThread's life. Must not call stop() on that thread.
  virtual void on_vcpu_end(std::uint32_t index, VcpuEnd end, const std::string& why) = 0;
};

class VcpuThread {
 public:
  // All that is referenced outlives the VcpuThread.
  struct Config {
    std::uint32_t index = 0;
    const Bus& pio;
    const Bus& mmio;
    VcpuEvents& events;
    VcpuHold& hold;
  };

  // Starts the thread, named "vcpu-<index>", parked.
  static Result<std::unique_ptr<VcpuThread>> create(const Config& config,
                                                    std::unique_ptr<EngineVcpu> vcpu);
  // stop() without a deadline.
  ~VcpuThread();
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;
  VcpuThread(VcpuThread&&) = delete;
  VcpuThread& operator=(VcpuThread&&) = delete;

  // Lets the vCPU go into the guest, unless it is held or has ended. Returns at once. No effect
  // after stop.
  void resume();
  // Returns when the vCPU is out of the guest, between two instructions, and stays there until
  // resume(). kTimeout: the request stands, the vCPU will park as soon as a device lets it.
  // On the vCPU's own thread: kInternal, use request_pause().
  Status pause(Deadline deadline);
  // The same without waiting: also from a device callback.
  void request_pause();

  // Runs `work` on the vCPU's thread between two instructions, with the vCPU out of the guest, and
  // waits for it. Works in every state but stopped (kGone). kTimeout: work was not and will not be
  // started. Not on the vCPU's own thread.
  Status with_vcpu(const std::function<Status(EngineVcpu&)>& work, Deadline deadline);
  // with_vcpu for the usual two.
  Result<CpuState> state(Deadline deadline);
  Status set_state(const CpuState& state, Deadline deadline);

  // Ends the thread in whatever state it is and joins it. Idempotent, several threads at once. A
  // vCPU inside a device callback ends when that returns; kTimeout when it does not in time, and
  // then stop() may be called again. Not on the vCPU's own thread: kInternal, use request_stop().
  Status stop(Deadline deadline);
  void request_stop();

  VcpuStats stats() const;  // without a wait for the guest
  bool parked() const;      // out of the guest and not about to enter it

 private:
  friend class VcpuHold;
  enum class Want : std::uint8_t { kPark, kRun, kStop };
  struct Work {
    const std::function<Status(EngineVcpu&)>* function;
    bool started = false;
    bool done = false;
    Status result;
  };

  VcpuThread(const Config& config, std::unique_ptr<EngineVcpu> vcpu)
      : config_(config), vcpu_(std::move(vcpu)) {}

  bool on_own_thread() const;
  bool want_locked(Want want);
  void want(Want want);
  void add_hold();   // Thread: the vCPU's
  void drop_hold();  // Thread: any
  bool may_run_locked() const { return want_ == Want::kRun && holds_ == 0 && !ended_ && !halted_; }

  void thread_main();
  void do_work(std::unique_lock<std::mutex>& lock);
  void enter_guest(std::unique_lock<std::mutex>& lock);
  bool dispatch(const VcpuExit& exit);
  void end(VcpuEnd end, const std::string& why);

  const Config config_;
  std::array<std::atomic<std::uint64_t>, std::variant_size_v<VcpuExit>> exits_{};
  const std::unique_ptr<EngineVcpu> vcpu_;

  mutable std::mutex mutex_;
  std::condition_variable command_;  // the vCPU thread waits
  std::condition_variable changed_;  // callers wait
  Want want_ = Want::kPark;
  bool in_guest_ = false;  // between the decision to run and the next look at the commands
  bool ended_ = false;
  bool halted_ = false;  // the engine has nothing that could wake this vCPU
  bool exited_ = false;
  std::uint32_t holds_ = 0;
  std::uint64_t parks_ = 0;  // how often in_guest_ went down
  std::list<std::shared_ptr<Work>> work_;

  std::mutex join_mutex_;
  std::thread thread_;      // guarded by join_mutex_ once create() has returned
  std::thread::id own_id_;  // constant once create() has returned
};

}  // namespace sm
