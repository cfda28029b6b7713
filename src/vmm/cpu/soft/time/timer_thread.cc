#include "vmm/cpu/soft/time/timer_thread.h"

#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

namespace {

constexpr std::uint64_t kNsPerSecond = 1'000'000'000;
constexpr std::uint64_t kLongestSleepNs = 3600 * kNsPerSecond;  // then it just looks again

// Until `word` is no longer `expected`, or until `deadline_ns` of CLOCK_MONOTONIC. May return
// early. SAFETY: an atomic<uint32_t> is a plain aligned word; the kernel only compares it.
void wait_on(std::atomic<std::uint32_t>& word, std::uint32_t expected, std::uint64_t deadline_ns) {
  static_assert(sizeof(word) == 4 && std::atomic<std::uint32_t>::is_always_lock_free);
  const timespec at{.tv_sec = static_cast<time_t>(deadline_ns / kNsPerSecond),
                    .tv_nsec = static_cast<long>(deadline_ns % kNsPerSecond)};
  ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, expected, &at, nullptr,
            FUTEX_BITSET_MATCH_ANY);
}

}  // namespace

TimerThread::TimerThread(AttentionSink& sink) : sink_(sink) {
  for (auto& slot : slots_) slot.store(kNever);
  thread_ = NamedThread("timer", [this] { run(); });
}

TimerThread::~TimerThread() { stop(); }

void TimerThread::stop() {
  stopping_.store(true);
  wake();
  thread_.join();
}

void TimerThread::arm(std::uint32_t vcpu, std::uint64_t deadline_ns) {
  if (vcpu >= slots_.size()) return;
  slots_[vcpu].store(deadline_ns);
  if (deadline_ns < sleeps_until_.load()) wake();
}

void TimerThread::cancel(std::uint32_t vcpu) {
  if (vcpu < slots_.size()) slots_[vcpu].store(kNever);
}

void TimerThread::wake() {
  sequence_.fetch_add(1);
  ::syscall(SYS_futex, &sequence_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

std::uint64_t TimerThread::earliest() const {
  std::uint64_t first = kNever;
  for (const auto& slot : slots_) first = std::min(first, slot.load());
  return first;
}

// A deadline that is replaced meanwhile stays: its vCPU is not told of the old one.
void TimerThread::post_due(std::uint64_t now_ns) {
  for (std::uint32_t vcpu = 0; vcpu < slots_.size(); ++vcpu) {
    std::uint64_t deadline = slots_[vcpu].load();
    if (deadline > now_ns || !slots_[vcpu].compare_exchange_strong(deadline, kNever)) continue;
    sink_.post(vcpu, kAttentionTimer);
  }
}

// All of it is sequentially consistent: either arm() sees the new sleeps_until_ and wakes, or the
// second look at the slots sees its deadline.
void TimerThread::run() {
  ::prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  for (;;) {
    const std::uint32_t seen = sequence_.load();
    if (stopping_.load()) return;
    const std::uint64_t now_ns = monotonic_ns();
    post_due(now_ns);
    const std::uint64_t until = std::min(earliest(), now_ns + kLongestSleepNs);
    sleeps_until_.store(until);
    if (earliest() < until) continue;
    wait_on(sequence_, seen, until);
    if (sequence_.load() != seen) wakes_.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace sm::soft
