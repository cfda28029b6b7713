// The pool with its threads: VMs that pretend, callers on many threads.
#include "runtime/pool/vm_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <random>
#include <set>
#include <thread>

namespace sm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr auto kPatience = seconds(60);

// What all VMs of a test have in common. The loop's thread, but for the atomics.
struct World {
  std::atomic<int> alive{0};
  std::atomic<int> most{0};
  std::atomic<int> started{0};
  std::atomic<bool> fail_starts{false};
  std::atomic<bool> hold_starts{false};  // VMs never become ready
  std::atomic<int> die_every{0};         // every n-th VM dies when it is ready
  std::atomic<bool> starter_closed{false};
};

class FakeVm final : public StartedVm {
 public:
  FakeVm(EventLoop& loop, World& world, VmEvents events, int number)
      : loop_(loop),
        world_(world),
        events_(std::move(events)),
        endpoint_(std::make_shared<VmEndpoint>(std::to_string(number), "/nowhere")) {
    world_.most = std::max(world_.most.load(), ++world_.alive);
    if (world_.hold_starts) return;
    later([this, number] {
      events_.on_ready();
      const int every = world_.die_every;
      if (every > 0 && number % every == 0) later([this] { end("it died"); });
    });
  }
  ~FakeVm() override {
    *here_ = false;
    leave("destroyed");
  }
  FakeVm(const FakeVm&) = delete;
  FakeVm& operator=(const FakeVm&) = delete;
  FakeVm(FakeVm&&) = delete;
  FakeVm& operator=(FakeVm&&) = delete;

  const std::shared_ptr<VmEndpoint>& endpoint() const override { return endpoint_; }
  void stop() override {
    later([this] { end("stopped"); });
  }

 private:
  void later(std::function<void()> task) {
    loop_.post([task = std::move(task), here = here_] {
      if (*here) task();
    });
  }
  void leave(const char* why) {
    if (!std::exchange(ended_, true)) --world_.alive;
    endpoint_->set_ended(Error(Code::kGone, why));
  }
  void end(const char* why) {
    if (ended_) return;
    leave(why);
    events_.on_end(Error(Code::kGone, why));
  }

  EventLoop& loop_;
  World& world_;
  VmEvents events_;
  std::shared_ptr<VmEndpoint> endpoint_;
  std::shared_ptr<bool> here_ = std::make_shared<bool>(true);
  bool ended_ = false;
};

class FakeStarter final : public VmStarter {
 public:
  FakeStarter(EventLoop& loop, World& world) : loop_(loop), world_(world) {}
  std::uint64_t memory_bytes() const override { return 1u << 20; }
  Result<std::unique_ptr<StartedVm>> start(VmEvents events) override {
    if (world_.fail_starts) return fail(Code::kNotFound, "no kernel");
    return std::make_unique<FakeVm>(loop_, world_, std::move(events), ++world_.started);
  }
  void close() override { world_.starter_closed = true; }

 private:
  EventLoop& loop_;
  World& world_;
};

PoolLimits limits(std::size_t min, std::size_t max) {
  PoolLimits out;
  out.min = min;
  out.max = max;
  out.acquire_timeout = kPatience;
  return out;
}

class VmPoolTest : public ::testing::Test {
 protected:
  std::shared_ptr<VmPool> make(const PoolLimits& l) {
    return VmPool::create(*loop_, gate_, std::make_unique<FakeStarter>(loop_->loop(), world_), l)
        .value();
  }
  static std::future<Result<VmLease>> ask(VmPool& pool) {
    auto answer = std::make_shared<std::promise<Result<VmLease>>>();
    pool.acquire([answer](Result<VmLease> lease) { answer->set_value(std::move(lease)); });
    return answer->get_future();
  }
  static Result<VmLease> acquire(VmPool& pool) {
    if (auto lease = pool.try_acquire()) return std::move(*lease);
    auto answer = ask(pool);
    if (answer.wait_for(kPatience) != std::future_status::ready) {
      return fail(Code::kInternal, "the pool did not answer");
    }
    return answer.get();
  }
  // Lets the loop work until the condition holds.
  bool eventually(const std::function<bool()>& condition) {
    const Deadline deadline = Deadline::after(kPatience);
    while (!condition()) {
      if (deadline.passed()) return false;
      std::promise<void> turn;
      if (!loop_->post([&] { turn.set_value(); })) return condition();
      turn.get_future().wait();
    }
    return true;
  }

  World world_;
  std::unique_ptr<LoopThread> loop_ = LoopThread::start("pool").value();
  StartGate gate_{loop_->loop(), StartLimits{.permits = 3}, [] { return std::nullopt; }};
  // Before the gate goes: its timers belong to the loop.
  struct Stopper {
    LoopThread& loop;
    explicit Stopper(LoopThread& l) : loop(l) {}
    ~Stopper() { loop.stop(); }
    Stopper(const Stopper&) = delete;
    Stopper& operator=(const Stopper&) = delete;
    Stopper(Stopper&&) = delete;
    Stopper& operator=(Stopper&&) = delete;
  } stopper_{*loop_};
};

TEST_F(VmPoolTest, lease_is_given_back_and_its_vm_replaced) {
  const auto pool = make(limits(1, 1));
  std::string first;
  {
    const VmLease lease = acquire(*pool).value();
    first = lease.endpoint()->id();
  }
  const VmLease again = acquire(*pool).value();
  EXPECT_NE(again.endpoint()->id(), first);
  EXPECT_EQ(world_.most, 1);
}

TEST_F(VmPoolTest, kept_vm_comes_again) {
  PoolLimits l = limits(0, 1);
  l.restore_on_release = false;
  const auto pool = make(l);
  VmLease lease = acquire(*pool).value();
  const std::string id = lease.endpoint()->id();
  lease.release();
  EXPECT_FALSE(lease.valid());
  const auto again = pool->try_acquire();
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->endpoint()->id(), id);
}

TEST_F(VmPoolTest, paused_vm_is_not_kept) {
  PoolLimits l = limits(0, 1);
  l.restore_on_release = false;
  const auto pool = make(l);
  VmLease lease = acquire(*pool).value();
  const std::string id = lease.endpoint()->id();
  lease.endpoint()->set_paused(true);
  lease.release();
  EXPECT_NE(acquire(*pool).value().endpoint()->id(), id);
}

TEST_F(VmPoolTest, caller_waits_until_a_vm_is_free) {
  const auto pool = make(limits(0, 1));
  VmLease lease = acquire(*pool).value();
  auto next = ask(*pool);
  auto after = ask(*pool);
  lease.release();
  VmLease second = next.get().value();
  EXPECT_EQ(after.wait_for(seconds(0)), std::future_status::timeout);
  second.release();
  EXPECT_TRUE(after.get().has_value());
}

TEST_F(VmPoolTest, caller_is_refused_at_the_timeout) {
  PoolLimits l = limits(0, 1);
  l.acquire_timeout = milliseconds(20);
  world_.hold_starts = true;
  const auto pool = make(l);
  const auto lease = ask(*pool).get();
  ASSERT_FALSE(lease.has_value());
  EXPECT_EQ(lease.error().code(), Code::kTimeout);
}

TEST_F(VmPoolTest, idle_vm_ends_after_its_time) {
  PoolLimits l = limits(0, 2);
  l.restore_on_release = false;
  l.idle_timeout = milliseconds(10);
  const auto pool = make(l);
  acquire(*pool).value().release();
  EXPECT_TRUE(eventually([&] { return world_.alive == 0; }));
  EXPECT_EQ(pool->stats().alive, 0u);
}

TEST_F(VmPoolTest, start_that_cannot_work_is_told_to_the_caller) {
  world_.fail_starts = true;
  const auto pool = make(limits(0, 1));
  const auto lease = ask(*pool).get();
  ASSERT_FALSE(lease.has_value());
  EXPECT_EQ(lease.error().code(), Code::kNotFound);
  world_.fail_starts = false;
  EXPECT_TRUE(acquire(*pool).has_value());
}

TEST_F(VmPoolTest, closed_pool_refuses_and_leaves_leased_vms_alone) {
  auto pool = make(limits(2, 3));
  VmLease lease = acquire(*pool).value();
  EXPECT_TRUE(eventually([&] { return pool->stats().idle == 2; }));
  EXPECT_FALSE(world_.starter_closed);
  const std::weak_ptr<VmPool> watch = pool;
  pool->close();
  EXPECT_FALSE(ask(*pool).get().has_value());
  pool.reset();
  EXPECT_TRUE(eventually([&] { return world_.alive == 1; }));
  EXPECT_FALSE(lease.endpoint()->end().has_value());
  EXPECT_TRUE(world_.starter_closed);  // nothing is kept for VMs that will not be
  lease.release();
  EXPECT_TRUE(eventually([&] { return world_.alive == 0; }));
  EXPECT_TRUE(eventually([&] { return watch.expired(); }));
}

TEST_F(VmPoolTest, stop_of_the_loop_ends_everything_and_answers_everybody) {
  world_.hold_starts = true;
  const auto pool = make(limits(2, 2));
  auto waiting = ask(*pool);
  loop_->stop();
  const auto lease = waiting.get();
  ASSERT_FALSE(lease.has_value());
  EXPECT_EQ(lease.error().code(), Code::kGone);
  EXPECT_EQ(world_.alive, 0);
  EXPECT_FALSE(ask(*pool).get().has_value());
  EXPECT_FALSE(pool->try_acquire().has_value());
}

TEST_F(VmPoolTest, lease_that_outlives_the_loop_is_harmless) {
  const auto pool = make(limits(0, 1));
  VmLease lease = acquire(*pool).value();
  bool told = false;
  lease.endpoint()->when_ended([&] { told = true; });
  loop_->stop();
  EXPECT_TRUE(told);
  EXPECT_TRUE(lease.endpoint()->end().has_value());
  lease.release();
}

// Many callers, VMs that die whenever they like; nobody is forgotten, no VM is given out twice, and
// there are never more than `max`.
TEST_F(VmPoolTest, many_threads_and_dying_vms) {
  world_.die_every = 3;
  for (const bool restore : {true, false}) {
    PoolLimits l = limits(2, 5);
    l.restore_on_release = restore;
    const auto pool = make(l);
    std::mutex mutex;
    std::set<std::string> in_use;
    std::atomic<int> served{0}, twice{0};
    {
      std::vector<std::jthread> callers;
      for (unsigned i = 0; i < 8; ++i) {
        callers.emplace_back([&] {
          for (int n = 0; n < 60; ++n) {
            auto lease = acquire(*pool);
            if (!lease) continue;
            const std::string id = lease->endpoint()->id();
            if (id.empty()) continue;
            {
              const std::lock_guard lock(mutex);
              if (!in_use.insert(id).second) ++twice;
            }
            ++served;
            {
              const std::lock_guard lock(mutex);
              in_use.erase(id);
            }
          }
        });
      }
    }
    EXPECT_EQ(twice, 0);
    EXPECT_GT(served, 0);
    EXPECT_EQ(pool->stats().leased, 0u);
    EXPECT_EQ(pool->stats().waiting, 0u);
    pool->close();
    EXPECT_TRUE(eventually([&] { return world_.alive == 0; }));
  }
  EXPECT_LE(world_.most, 5);
}

TEST_F(VmPoolTest, close_and_stop_at_any_moment_answer_everybody) {
  for (int round = 0; round < 30; ++round) {
    auto loop = LoopThread::start("pool").value();
    StartGate gate(loop->loop(), StartLimits{.permits = 2}, [] { return std::nullopt; });
    auto pool = VmPool::create(*loop, gate, std::make_unique<FakeStarter>(loop->loop(), world_),
                               limits(1, 3))
                    .value();
    std::atomic<int> answers{0};
    constexpr int kAsks = 40;
    {
      std::jthread caller([&] {
        for (int i = 0; i < kAsks; ++i) pool->acquire([&](Result<VmLease>) { ++answers; });
      });
      std::jthread closer([&] {
        if (round % 2 == 0) pool->close();
        if (round % 3 == 0) loop->stop();
      });
    }
    pool->close();
    loop->stop();
    EXPECT_EQ(answers, kAsks);
    EXPECT_EQ(world_.alive, 0);
  }
}

}  // namespace
}  // namespace sm
