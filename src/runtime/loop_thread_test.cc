#include "runtime/loop_thread.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <vector>

namespace sm {
namespace {

TEST(LoopThread, accepted_tasks_run_before_the_hooks_and_later_ones_are_refused) {
  auto loop = LoopThread::start("test").value();
  std::vector<int> order;
  ASSERT_TRUE(loop->post([&] { loop->add_stop_hook([&] { order.push_back(3); }); }));
  ASSERT_TRUE(loop->post([&] { order.push_back(1); }));
  ASSERT_TRUE(loop->post([&] { order.push_back(2); }));
  loop->stop();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
  EXPECT_FALSE(loop->post([&] { order.push_back(4); }));
  loop->stop();
}

TEST(LoopThread, hook_may_remove_another_and_what_it_posts_runs) {
  auto loop = LoopThread::start("test").value();
  bool second = false, posted = false;
  ASSERT_TRUE(loop->post([&] {
    auto id = std::make_shared<HookId>();
    loop->add_stop_hook([&, id] {
      loop->remove_stop_hook(*id);
      loop->loop().post([&] { posted = true; });
    });
    *id = loop->add_stop_hook([&] { second = true; });
  }));
  loop->stop();
  EXPECT_FALSE(second);
  EXPECT_TRUE(posted);
}

TEST(LoopThread, knows_its_own_thread_and_blocks_signals) {
  auto loop = LoopThread::start("test").value();
  bool inside = false;
  sigset_t mask;
  ::sigemptyset(&mask);
  ASSERT_TRUE(loop->post([&] {
    inside = loop->on_thread();
    ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  }));
  loop->stop();
  EXPECT_TRUE(inside);
  EXPECT_FALSE(loop->on_thread());
  EXPECT_EQ(::sigismember(&mask, SIGTERM), 1);
}

}  // namespace
}  // namespace sm
