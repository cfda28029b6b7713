#include "base/event_loop.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

namespace sm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct Pipe {
  Pipe() {
    int fds[2] = {-1, -1};
    EXPECT_EQ(::pipe(fds), 0);
    read = UniqueFd(fds[0]);
    write = UniqueFd(fds[1]);
  }
  void poke() const { EXPECT_EQ(::write(write.get(), "x", 1), 1); }
  UniqueFd read, write;
};

TEST(EventLoop, calls_back_while_a_descriptor_is_readable) {
  auto loop = EventLoop::create().value();
  Pipe pipe;
  int calls = 0;
  ASSERT_TRUE(loop->add(pipe.read.get(), EPOLLIN, [&](std::uint32_t) { ++calls; }));
  loop->run_once(Deadline::after(milliseconds(0)));
  EXPECT_EQ(calls, 0);
  pipe.poke();
  loop->run_once(Deadline::after(seconds(5)));
  loop->run_once(Deadline::after(seconds(5)));
  EXPECT_EQ(calls, 2);
}

TEST(EventLoop, a_watch_removed_by_another_callback_of_the_same_turn_is_not_called) {
  auto loop = EventLoop::create().value();
  Pipe a, b;
  int calls = 0;
  WatchId ids[2] = {};
  const auto callback = [&](int other) {
    return [&, other](std::uint32_t) {
      ++calls;
      loop->remove(ids[other]);
    };
  };
  ids[0] = loop->add(a.read.get(), EPOLLIN, callback(1)).value();
  ids[1] = loop->add(b.read.get(), EPOLLIN, callback(0)).value();
  a.poke();
  b.poke();
  loop->run_once(Deadline::after(seconds(5)));
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, a_callback_may_remove_its_own_watch) {
  auto loop = EventLoop::create().value();
  Pipe pipe;
  WatchId id{};
  int calls = 0;
  id = loop->add(pipe.read.get(), EPOLLIN,
                 [&](std::uint32_t) {
                   loop->remove(id);
                   ++calls;
                 })
           .value();
  pipe.poke();
  loop->run_once(Deadline::after(seconds(5)));
  loop->run_once(Deadline::after(milliseconds(0)));
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, timers_fire_in_order_and_not_when_cancelled) {
  auto loop = EventLoop::create().value();
  std::string order;
  const TimePoint t = now();
  loop->add_timer(t + milliseconds(2), [&] { order += 'b'; });
  loop->add_timer(t + milliseconds(1), [&] { order += 'a'; });
  const TimerId cancelled = loop->add_timer(t, [&] { order += 'x'; });
  loop->cancel_timer(cancelled);
  loop->add_timer(t + milliseconds(3), [&] { loop->stop(); });
  loop->run();
  EXPECT_EQ(order, "ab");
}

TEST(EventLoop, posted_tasks_from_other_threads_all_run_on_the_loop) {
  auto loop = EventLoop::create().value();
  int ran = 0;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        loop->post([&] {
          if (++ran == 4000) loop->stop();
        });
      }
    });
  }
  loop->run();
  EXPECT_EQ(ran, 4000);
}

TEST(EventLoop, stop_before_run_makes_run_return_at_once) {
  auto loop = EventLoop::create().value();
  loop->stop();
  loop->run();
}

}  // namespace
}  // namespace sm
