#include "vmm/cpu/soft/time/timer_thread.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {
namespace {

constexpr std::uint64_t kMs = 1'000'000;
constexpr auto kPatience = std::chrono::seconds(20);

// Remembers when each vCPU was told.
class Recorder final : public AttentionSink {
 public:
  void post(std::uint32_t vcpu, std::uint32_t attention_bits) override {
    EXPECT_EQ(attention_bits, kAttentionTimer);
    const std::lock_guard lock(mutex_);
    ++counts_.at(vcpu);
    last_ns_ = monotonic_ns();
    changed_.notify_all();
  }
  bool wait_for(std::uint32_t vcpu, int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return counts_.at(vcpu) >= count; });
  }
  int count(std::uint32_t vcpu) {
    const std::lock_guard lock(mutex_);
    return counts_.at(vcpu);
  }
  std::uint64_t last_ns() {
    const std::lock_guard lock(mutex_);
    return last_ns_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<int, kMaxVcpus> counts_{};
  std::uint64_t last_ns_ = 0;
};

TEST(TimerThread, posts_once_and_not_early) {
  Recorder sink;
  TimerThread timers(sink);
  const std::uint64_t deadline = monotonic_ns() + 5 * kMs;
  timers.arm(3, deadline);
  ASSERT_TRUE(sink.wait_for(3, 1));
  EXPECT_GE(sink.last_ns(), deadline);
  timers.arm(4, monotonic_ns() + 5 * kMs);
  ASSERT_TRUE(sink.wait_for(4, 1));
  EXPECT_EQ(sink.count(3), 1);
}

TEST(TimerThread, a_deadline_in_the_past_is_due_at_once) {
  Recorder sink;
  TimerThread timers(sink);
  timers.arm(0, 1);
  ASSERT_TRUE(sink.wait_for(0, 1));
  timers.arm(0, 0);
  ASSERT_TRUE(sink.wait_for(0, 2));
}

TEST(TimerThread, an_earlier_deadline_overtakes) {
  Recorder sink;
  TimerThread timers(sink);
  timers.arm(0, monotonic_ns() + 3'600'000 * kMs);
  timers.arm(1, monotonic_ns() + 1 * kMs);
  ASSERT_TRUE(sink.wait_for(1, 1));
  timers.arm(0, monotonic_ns() + 1 * kMs);
  ASSERT_TRUE(sink.wait_for(0, 1));
}

TEST(TimerThread, a_cancelled_deadline_is_not_posted) {
  Recorder sink;
  TimerThread timers(sink);
  // Again when a busy machine did not let this thread cancel in time.
  std::uint64_t deadline = 0;
  std::uint32_t vcpu = 0;
  do {
    deadline = monotonic_ns() + 20 * kMs;
    timers.arm(++vcpu, deadline);
    timers.cancel(vcpu);
  } while (monotonic_ns() >= deadline && vcpu + 1 < kMaxVcpus);
  timers.arm(0, deadline + 20 * kMs);
  ASSERT_TRUE(sink.wait_for(0, 1));
  EXPECT_EQ(sink.count(vcpu), 0);
}

TEST(TimerThread, later_deadlines_do_not_wake_it) {
  Recorder sink;
  TimerThread timers(sink);
  timers.arm(0, 1);
  ASSERT_TRUE(sink.wait_for(0, 1));
  // Its sleep is on record once an early deadline had to wake it.
  const std::uint64_t far = monotonic_ns() + 3'600'000 * kMs;
  timers.arm(0, far);
  const auto give_up = std::chrono::steady_clock::now() + kPatience;
  const std::uint64_t before = timers.wakes();
  while (timers.wakes() == before && std::chrono::steady_clock::now() < give_up) {
    timers.arm(1, monotonic_ns() + 1);
    std::this_thread::yield();
  }
  ASSERT_TRUE(sink.wait_for(1, 1));
  const std::uint64_t settled = timers.wakes();
  for (std::uint64_t i = 0; i < 10'000; ++i) timers.arm(0, far + i * kMs);
  EXPECT_LE(timers.wakes(), settled + 1);  // an arm of the loop above may still be under way
}

TEST(TimerThread, vcpus_that_do_not_exist_are_ignored) {
  Recorder sink;
  TimerThread timers(sink);
  timers.arm(kMaxVcpus, 0);
  timers.cancel(~0u);
  timers.arm(0, 0);
  ASSERT_TRUE(sink.wait_for(0, 1));
}

TEST(TimerThread, stops_in_every_state) {
  Recorder sink;
  for (int i = 0; i < 200; ++i) {
    TimerThread timers(sink);
    if (i % 3 == 1) timers.arm(0, monotonic_ns() + 3'600'000 * kMs);
    if (i % 3 == 2) timers.arm(0, 0);
    timers.stop();
    const int count = sink.count(0);
    timers.arm(0, 0);
    timers.stop();
    EXPECT_EQ(sink.count(0), count);
  }
}

// Several vCPUs arm, move and cancel without pause; each one's last deadline is posted.
TEST(TimerThread, no_deadline_is_lost_among_many_changes) {
  constexpr std::uint32_t kVcpus = 4;
  constexpr int kRounds = 300;
  Recorder sink;
  TimerThread timers(sink);
  std::vector<std::jthread> vcpus;
  for (std::uint32_t vcpu = 0; vcpu < kVcpus; ++vcpu) {
    vcpus.emplace_back([&, vcpu] {
      std::mt19937 random(vcpu);
      for (int round = 0; round < kRounds; ++round) {
        for (std::uint64_t i = random() % 20; i > 0; --i) {
          timers.arm(vcpu, monotonic_ns() + 3'600'000 * kMs + random() % kMs);
          if (random() % 4 == 0) timers.cancel(vcpu);
        }
        const int before = sink.count(vcpu);
        timers.arm(vcpu, monotonic_ns() + random() % 200'000);
        ASSERT_TRUE(sink.wait_for(vcpu, before + 1)) << "round " << round;
      }
    });
  }
}

// The median, and of several, since the machine that runs the tests may be busy.
TEST(TimerThread, is_precise) {
  Recorder sink;
  TimerThread timers(sink);
  std::uint64_t median = ~0ull;
  for (int round = 0, posted = 0; round < 20 && median >= 5 * kMs; ++round) {
    std::vector<std::uint64_t> late;
    for (int i = 0; i < 51; ++i) {
      const std::uint64_t deadline = monotonic_ns() + kMs;
      timers.arm(0, deadline);
      ASSERT_TRUE(sink.wait_for(0, ++posted));
      late.push_back(sink.last_ns() - deadline);
    }
    std::nth_element(late.begin(), late.begin() + 25, late.end());
    median = std::min(median, late[25]);
  }
  RecordProperty("median_late_ns", std::to_string(median));
  EXPECT_LT(median, 5 * kMs);
}

}  // namespace
}  // namespace sm::soft
