// TimerThread: the one thread per machine that waits for the vCPUs' timer deadlines.
//
// Each vCPU has a slot. arm() and cancel() are one store; only a deadline earlier than the one the
// thread sleeps for wakes it. So a timer that is pushed back again and again costs nothing but an
// idle wake-up at the old time.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "base/thread.h"
#include "vmm/cpu/engine.h"
#include "vmm/cpu/soft/apic/attention_sink.h"
#include "vmm/cpu/soft/time/timer_queue.h"

namespace sm::soft {

class TimerThread final : public TimerQueue {
 public:
  // Starts the thread. Deadlines are nanoseconds of CLOCK_MONOTONIC (HostClock::ns()). `sink`
  // outlives it and is called on that thread.
  explicit TimerThread(AttentionSink& sink);
  // stop().
  ~TimerThread() override;
  TimerThread(const TimerThread&) = delete;
  TimerThread& operator=(const TimerThread&) = delete;
  TimerThread(TimerThread&&) = delete;
  TimerThread& operator=(TimerThread&&) = delete;

  // Any thread.
  void arm(std::uint32_t vcpu, std::uint64_t deadline_ns) override;
  void cancel(std::uint32_t vcpu) override;
  // Joins the thread; nothing is posted afterwards. Idempotent. Not on the thread itself.
  void stop();

  // How often the thread was woken for an earlier deadline; for tests.
  std::uint64_t wakes() const { return wakes_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint64_t kNever = ~0ull;

  void run();
  void post_due(std::uint64_t now_ns);
  std::uint64_t earliest() const;
  void wake();

  AttentionSink& sink_;
  std::array<std::atomic<std::uint64_t>, kMaxVcpus> slots_;
  std::atomic<std::uint64_t> sleeps_until_{0};
  std::atomic<std::uint32_t> sequence_{0};  // what the thread waits on
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> wakes_{0};
  NamedThread thread_;  // last: it uses all of the above
};

}  // namespace sm::soft
