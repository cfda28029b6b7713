#include "runtime/pool/pool_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace sm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A core, a clock, and what the core asked for so far.
class Pool {
 public:
  explicit Pool(const PoolLimits& limits) : core(limits, clock) { collect(); }

  void collect() {
    for (auto& action : core.take_actions()) {
      if (const auto* a = std::get_if<PoolCore::StartVm>(&action)) started.push_back(a->vm);
      if (const auto* a = std::get_if<PoolCore::StopVm>(&action)) stopped.push_back(a->vm);
      if (const auto* a = std::get_if<PoolCore::Grant>(&action)) granted.push_back(*a);
      if (const auto* a = std::get_if<PoolCore::Refuse>(&action)) refused.push_back(*a);
    }
  }
  WaiterId acquire() {
    const WaiterId id = core.acquire(clock);
    collect();
    return id;
  }
  void ready(PoolVmId vm) { core.on_ready(vm, clock), collect(); }
  void failed(PoolVmId vm) { core.on_failed(vm, Error(Code::kGuest, "no boot"), clock), collect(); }
  void gone(PoolVmId vm) { core.on_gone(vm, clock), collect(); }
  void release(PoolVmId vm) { core.release(vm, true, clock), collect(); }
  void close() { core.close(clock), collect(); }
  void pass(Duration d) {
    clock += d;
    core.on_time(clock);
    collect();
  }
  PoolStats stats() const { return core.stats(); }

  TimePoint clock{std::chrono::hours(1)};
  PoolCore core;
  std::vector<PoolVmId> started, stopped;
  std::vector<PoolCore::Grant> granted;
  std::vector<PoolCore::Refuse> refused;
};

PoolLimits limits(std::size_t min, std::size_t max) {
  PoolLimits out;
  out.min = min;
  out.max = max;
  out.idle_timeout = seconds(60);
  out.acquire_timeout = seconds(30);
  return out;
}

TEST(PoolCore, starts_min_at_once_and_nothing_else) {
  const Pool pool(limits(3, 8));
  EXPECT_EQ(pool.started.size(), 3u);
  EXPECT_EQ(pool.stats().starting, 3u);
}

TEST(PoolCore, without_min_the_first_acquire_starts_the_first_vm) {
  Pool pool(limits(0, 2));
  EXPECT_THAT(pool.started, IsEmpty());
  const WaiterId caller = pool.acquire();
  ASSERT_EQ(pool.started.size(), 1u);
  EXPECT_THAT(pool.granted, IsEmpty());
  pool.ready(pool.started[0]);
  ASSERT_EQ(pool.granted.size(), 1u);
  EXPECT_EQ(pool.granted[0].waiter, caller);
  EXPECT_EQ(pool.granted[0].vm, pool.started[0]);
  EXPECT_EQ(pool.stats().leased, 1u);
  EXPECT_EQ(pool.stats().acquired_warm, 0u);
}

TEST(PoolCore, idle_vm_is_handed_over_at_once_and_refilled) {
  Pool pool(limits(1, 4));
  pool.ready(pool.started[0]);
  const auto vm = pool.core.try_acquire(pool.clock);
  pool.collect();
  EXPECT_EQ(vm, pool.started[0]);
  EXPECT_EQ(pool.started.size(), 2u);
  EXPECT_EQ(pool.stats().acquired_warm, 1u);
  EXPECT_FALSE(pool.core.try_acquire(pool.clock));
}

TEST(PoolCore, never_exceeds_max_even_while_dirty_ones_are_stopping) {
  Pool pool(limits(0, 2));
  pool.acquire();
  pool.acquire();
  pool.acquire();
  ASSERT_EQ(pool.started.size(), 2u);
  pool.ready(pool.started[0]);
  pool.release(pool.started[0]);
  EXPECT_THAT(pool.stopped, ElementsAre(pool.started[0]));
  EXPECT_EQ(pool.started.size(), 2u);
  pool.gone(pool.started[0]);
  EXPECT_EQ(pool.started.size(), 3u);
}

TEST(PoolCore, waiters_are_served_in_the_order_in_which_they_came) {
  Pool pool(limits(0, 1));
  std::vector<WaiterId> callers;
  for (int i = 0; i < 5; ++i) callers.push_back(pool.acquire());
  for (std::size_t i = 0; i < callers.size(); ++i) {
    ASSERT_EQ(pool.started.size(), i + 1);
    pool.ready(pool.started[i]);
    ASSERT_EQ(pool.granted.size(), i + 1);
    EXPECT_EQ(pool.granted[i].waiter, callers[i]);
    pool.release(pool.started[i]);
    pool.gone(pool.started[i]);
  }
}

TEST(PoolCore, kept_vm_goes_to_the_next_waiter_without_a_restart) {
  PoolLimits l = limits(0, 1);
  l.restore_on_release = false;
  Pool pool(l);
  pool.acquire();
  const WaiterId second = pool.acquire();
  pool.ready(pool.started[0]);
  pool.release(pool.started[0]);
  ASSERT_EQ(pool.granted.size(), 2u);
  EXPECT_EQ(pool.granted[1].waiter, second);
  EXPECT_THAT(pool.stopped, IsEmpty());
}

TEST(PoolCore, waiter_is_refused_at_its_deadline_with_the_reason) {
  Pool pool(limits(0, 1));
  pool.acquire();
  pool.ready(pool.started[0]);
  const WaiterId late = pool.acquire();
  EXPECT_EQ(pool.core.next_deadline(), pool.clock + seconds(30));
  pool.pass(seconds(30) - milliseconds(1));
  EXPECT_THAT(pool.refused, IsEmpty());
  pool.pass(milliseconds(1));
  ASSERT_EQ(pool.refused.size(), 1u);
  EXPECT_EQ(pool.refused[0].waiter, late);
  EXPECT_EQ(pool.refused[0].error.code(), Code::kTimeout);
  EXPECT_THAT(pool.refused[0].error.cause(), HasSubstr("1 leased"));
  EXPECT_EQ(pool.stats().timed_out, 1u);
}

TEST(PoolCore, vm_that_becomes_free_after_the_deadline_is_not_given_to_the_late_waiter) {
  Pool pool(limits(0, 1));
  pool.acquire();
  pool.clock += seconds(31);
  pool.ready(pool.started[0]);
  EXPECT_THAT(pool.granted, IsEmpty());
  EXPECT_EQ(pool.refused.size(), 1u);
  EXPECT_EQ(pool.stats().idle, 1u);
}

TEST(PoolCore, acquire_without_patience_never_waits) {
  PoolLimits l = limits(0, 1);
  l.acquire_timeout = Duration::zero();
  Pool pool(l);
  pool.acquire();
  EXPECT_EQ(pool.refused.size(), 1u);
  pool.ready(pool.started[0]);
  pool.acquire();
  EXPECT_EQ(pool.granted.size(), 1u);
}

TEST(PoolCore, cancelled_waiter_gets_nothing) {
  Pool pool(limits(0, 1));
  const WaiterId first = pool.acquire();
  const WaiterId second = pool.acquire();
  EXPECT_TRUE(pool.core.cancel(first, pool.clock));
  pool.ready(pool.started[0]);
  ASSERT_EQ(pool.granted.size(), 1u);
  EXPECT_EQ(pool.granted[0].waiter, second);
  EXPECT_FALSE(pool.core.cancel(second, pool.clock));
}

TEST(PoolCore, idle_vms_beyond_min_end_after_the_timeout_oldest_first) {
  PoolLimits l = limits(1, 4);
  l.restore_on_release = false;
  Pool pool(l);
  pool.acquire();
  pool.acquire();
  pool.acquire();
  for (std::size_t i = 0; i < pool.started.size(); ++i) pool.ready(pool.started[i]);
  ASSERT_EQ(pool.granted.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    pool.release(pool.granted[i].vm);
    pool.clock += seconds(1);
  }
  // Two are idle since the beginning: the one of `min` and the first that was released.
  pool.pass(seconds(57));
  EXPECT_EQ(pool.stats().idle, 2u);
  pool.pass(seconds(1));
  EXPECT_EQ(pool.stats().idle, 1u);
  EXPECT_EQ(pool.core.next_deadline(), std::nullopt);
}

TEST(PoolCore, most_recently_used_vm_is_handed_out_first) {
  PoolLimits l = limits(2, 2);
  l.restore_on_release = false;
  Pool pool(l);
  pool.ready(pool.started[0]);
  pool.ready(pool.started[1]);
  EXPECT_EQ(pool.core.try_acquire(pool.clock), pool.started[1]);
}

TEST(PoolCore, without_idle_timeout_idle_vms_stay) {
  PoolLimits l = limits(0, 1);
  l.idle_timeout.reset();
  l.restore_on_release = false;
  Pool pool(l);
  pool.acquire();
  pool.ready(pool.started[0]);
  pool.release(pool.started[0]);
  pool.pass(std::chrono::hours(1000));
  EXPECT_EQ(pool.stats().idle, 1u);
}

TEST(PoolCore, dead_idle_vm_is_replaced) {
  Pool pool(limits(1, 2));
  pool.ready(pool.started[0]);
  pool.gone(pool.started[0]);
  EXPECT_EQ(pool.started.size(), 2u);
  EXPECT_FALSE(pool.core.try_acquire(pool.clock));
  EXPECT_EQ(pool.stats().died, 1u);
}

TEST(PoolCore, dead_leased_vm_makes_room_and_its_release_is_harmless) {
  Pool pool(limits(0, 1));
  pool.acquire();
  pool.acquire();
  pool.ready(pool.started[0]);
  pool.gone(pool.started[0]);
  ASSERT_EQ(pool.started.size(), 2u);
  pool.release(pool.started[0]);
  pool.ready(pool.started[1]);
  EXPECT_EQ(pool.granted.size(), 2u);
}

TEST(PoolCore, failed_start_is_tried_again_after_a_pause) {
  Pool pool(limits(0, 4));
  pool.acquire();
  pool.failed(pool.started[0]);
  EXPECT_EQ(pool.started.size(), 1u);
  pool.pass(milliseconds(99));
  EXPECT_EQ(pool.started.size(), 1u);
  pool.pass(milliseconds(1));
  ASSERT_EQ(pool.started.size(), 2u);
  pool.ready(pool.started[1]);
  EXPECT_EQ(pool.granted.size(), 1u);
  EXPECT_THAT(pool.refused, IsEmpty());
}

TEST(PoolCore, three_failures_in_a_row_refuse_those_who_wait_with_the_reason) {
  Pool pool(limits(0, 1));
  pool.acquire();
  pool.acquire();
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_THAT(pool.refused, IsEmpty());
    ASSERT_EQ(pool.started.size(), i + 1);
    pool.failed(pool.started[i]);
    pool.pass(seconds(1));
  }
  ASSERT_EQ(pool.refused.size(), 2u);
  EXPECT_EQ(pool.refused[0].error.cause(), "no boot");
  EXPECT_EQ(pool.stats().waiting, 0u);
}

TEST(PoolCore, after_a_failure_one_vm_at_a_time_is_tried) {
  Pool pool(limits(4, 8));
  for (std::size_t i = 0; i < 4; ++i) pool.failed(pool.started[i]);
  pool.pass(seconds(31));
  EXPECT_EQ(pool.started.size(), 5u);
  pool.ready(pool.started[4]);
  EXPECT_EQ(pool.started.size(), 8u);
}

TEST(PoolCore, pause_between_failures_grows_to_its_limit) {
  Pool pool(limits(1, 1));
  for (int i = 0; i < 40; ++i) {
    pool.failed(pool.started.back());
    const auto next = pool.core.next_deadline();
    ASSERT_TRUE(next.has_value());
    EXPECT_LE(*next - pool.clock, seconds(30));
    pool.pass(*next - pool.clock);
    ASSERT_EQ(pool.started.size(), static_cast<std::size_t>(i) + 2);
  }
}

TEST(PoolCore, close_refuses_waiters_and_stops_what_is_not_leased) {
  Pool pool(limits(2, 3));
  pool.ready(pool.started[0]);
  ASSERT_TRUE(pool.core.try_acquire(pool.clock));
  pool.collect();
  ASSERT_EQ(pool.started.size(), 3u);
  pool.ready(pool.started[1]);
  pool.acquire();
  const WaiterId waiting = pool.acquire();
  pool.close();
  ASSERT_FALSE(pool.refused.empty());
  EXPECT_EQ(pool.refused.back().waiter, waiting);
  EXPECT_EQ(pool.refused.back().error.code(), Code::kGone);
  for (const PoolVmId vm : pool.stopped) pool.gone(vm);
  EXPECT_EQ(pool.stats().leased, 2u);
  pool.release(pool.started[0]);
  pool.release(pool.started[1]);
  for (const PoolVmId vm : pool.stopped) pool.gone(vm);
  EXPECT_TRUE(pool.core.empty());
  EXPECT_EQ(pool.started.size(), 3u);
  pool.acquire();
  EXPECT_EQ(pool.refused.back().error.code(), Code::kGone);
}

TEST(PoolCore, vm_that_becomes_ready_after_close_is_not_handed_out) {
  Pool pool(limits(1, 1));
  pool.close();
  pool.ready(pool.started[0]);
  EXPECT_EQ(pool.stats().idle, 0u);
  EXPECT_FALSE(pool.core.try_acquire(pool.clock));
  pool.gone(pool.started[0]);
  EXPECT_TRUE(pool.core.empty());
}

TEST(PoolCore, limits_are_checked) {
  EXPECT_TRUE(check_limits(limits(0, 1)));
  EXPECT_FALSE(check_limits(limits(0, 0)));
  EXPECT_FALSE(check_limits(limits(3, 2)));
  EXPECT_FALSE(check_limits(limits(0, 1u << 20)));
  PoolLimits l = limits(0, 1);
  l.acquire_timeout = seconds(-1);
  EXPECT_FALSE(check_limits(l));
}

// Whatever happens in whatever order: the invariants hold and nobody is forgotten.
class Chaos {
 public:
  explicit Chaos(std::uint32_t seed) : random_(seed), pool_(make_limits()) {}

  void run() {
    const std::size_t closing = pick(400);
    for (std::size_t step = 0; step < 400; ++step) {
      if (step == closing) pool_.close();
      act();
      check();
    }
    settle();
  }

 private:
  PoolLimits make_limits() {
    PoolLimits l = limits(pick(4), 0);
    l.max = std::max<std::size_t>(1, l.min + pick(4));
    l.restore_on_release = pick(2) == 0;
    l.acquire_timeout = seconds(pick(40));
    if (pick(3) == 0) l.idle_timeout.reset();
    max_ = l.max;
    return l;
  }
  std::size_t pick(std::size_t n) {
    return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_);
  }
  PoolVmId any_vm() {
    return pool_.started.empty() ? PoolVmId{99} : pool_.started[pick(pool_.started.size())];
  }
  // One thing that can happen; things that cannot are ignored by the core.
  void act() {
    switch (pick(8)) {
      case 0:
      case 1:
        asked_.push_back(pool_.acquire());
        break;
      case 2:
      case 3:
        ready(any_vm());
        break;
      case 4:
        pool_.release(any_vm());
        break;
      case 5:
        end(any_vm());
        break;
      case 6:
        pool_.pass(seconds(pick(20)));
        break;
      default:
        if (!asked_.empty() && pick(4) == 0) cancel(asked_[pick(asked_.size())]);
    }
  }
  void cancel(WaiterId waiter) {
    if (pool_.core.cancel(waiter, pool_.clock)) cancelled_.insert(waiter);
    pool_.collect();
  }
  void ready(PoolVmId vm) {
    if (!ended_.contains(vm)) ready_.insert(vm), pool_.ready(vm);
  }
  void end(PoolVmId vm) {
    if (!ended_.insert(vm).second) return;
    ready_.contains(vm) ? pool_.gone(vm) : pool_.failed(vm);
  }
  void check() {
    const PoolStats s = pool_.stats();
    ASSERT_LE(s.alive + s.stopping, max_);
    ASSERT_FALSE(s.idle > 0 && s.waiting > 0) << "idle VM beside a waiter";
    ASSERT_EQ(asked_.size(),
              pool_.granted.size() + pool_.refused.size() + cancelled_.size() + s.waiting);
    ASSERT_TRUE(std::is_sorted(pool_.granted.begin(), pool_.granted.end(), [](auto& a, auto& b) {
      return a.waiter < b.waiter;
    })) << "out of order";
    const auto next = pool_.core.next_deadline();
    // Whoever waits is either being served by a VM on its way or has a deadline.
    ASSERT_TRUE(s.waiting == 0 || next.has_value());
  }
  void settle() {
    pool_.close();
    for (const PoolVmId vm : pool_.started) pool_.release(vm);
    for (const PoolVmId vm : pool_.stopped) end(vm);
    for (const PoolVmId vm : pool_.started) end(vm);
    ASSERT_TRUE(pool_.core.empty());
    ASSERT_EQ(asked_.size(), pool_.granted.size() + pool_.refused.size() + cancelled_.size());
  }

  std::mt19937 random_;
  std::size_t max_ = 0;
  Pool pool_;
  std::vector<WaiterId> asked_;
  std::set<WaiterId> cancelled_;
  std::set<PoolVmId> ready_, ended_;
};

TEST(PoolCore, random_histories_keep_the_invariants) {
  for (std::uint32_t seed = 1; seed <= 500; ++seed) {
    SCOPED_TRACE(seed);
    Chaos(seed).run();
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace sm
