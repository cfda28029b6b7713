// EventLoop: a level-triggered epoll loop with timers and a mailbox. One thread runs it; only
// post() and stop() may be called from others. Callbacks never block and never re-enter run().
// Freestanding.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace sm {

// Names one watch; never reused within a loop. 0 names none.
enum class WatchId : std::uint64_t { kNone = 0 };
enum class TimerId : std::uint64_t { kNone = 0 };

class EventLoop {
 public:
  using FdCallback = std::function<void(std::uint32_t events)>;
  using Task = std::function<void()>;

  static Result<std::unique_ptr<EventLoop>> create();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  EventLoop(EventLoop&&) = delete;
  EventLoop& operator=(EventLoop&&) = delete;

  // Watches fd for EPOLLIN/EPOLLOUT/...; the caller keeps the descriptor open until remove().
  // Thread: the loop's, or any before run().
  Result<WatchId> add(int fd, std::uint32_t events, FdCallback callback);
  Status modify(WatchId id, std::uint32_t events);
  // After return the callback is never called again. Remove before closing the descriptor.
  void remove(WatchId id);

  // Calls task once, not before `at`. Thread: the loop's.
  TimerId add_timer(TimePoint at, Task task);
  void cancel_timer(TimerId id);

  // Runs task on the loop's thread in order of arrival. Any thread.
  void post(Task task);
  // Makes run() return after the current turn. Any thread, any time, also before run().
  void stop();

  // Dispatches until stop().
  void run();
  // Dispatches what is ready, waiting at most until the deadline for the first event.
  void run_once(Deadline deadline);

 private:
  struct Watch {
    int fd;
    FdCallback callback;
  };

  EventLoop(UniqueFd epoll, UniqueFd wake);
  void wake();
  void run_posted();
  void run_due_timers();
  int timeout_ms(const Deadline* limit) const;
  void turn(const Deadline* limit);

  UniqueFd epoll_;
  UniqueFd wake_;
  std::uint64_t next_id_ = 1;
  std::unordered_map<std::uint64_t, std::shared_ptr<Watch>> watches_;
  std::map<std::pair<TimePoint, std::uint64_t>, Task> timers_;
  std::unordered_map<std::uint64_t, TimePoint> timer_times_;
  std::mutex posted_mutex_;
  std::vector<Task> posted_;
  std::atomic<bool> stopping_{false};
};

}  // namespace sm
