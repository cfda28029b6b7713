#include "base/event_loop.h"

#include <sys/eventfd.h>

#include <array>
#include <cerrno>

#include "base/check.h"

namespace sm {

namespace {
constexpr std::uint64_t kWakeToken = 0;
}

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return fail_errno("epoll_create1", errno);
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return fail_errno("eventfd", errno);
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kWakeToken}};
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) < 0) {
    return fail_errno("epoll_ctl", errno);
  }
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll), std::move(wake)));
}

EventLoop::EventLoop(UniqueFd epoll, UniqueFd wake)
    : epoll_(std::move(epoll)), wake_(std::move(wake)) {}

EventLoop::~EventLoop() = default;

Result<WatchId> EventLoop::add(int fd, std::uint32_t events, FdCallback callback) {
  const std::uint64_t id = next_id_++;
  epoll_event event{.events = events, .data = {.u64 = id}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) < 0) {
    return fail_errno("epoll_ctl add", errno);
  }
  watches_.emplace(id, std::make_shared<Watch>(Watch{fd, std::move(callback)}));
  return WatchId{id};
}

Status EventLoop::modify(WatchId id, std::uint32_t events) {
  const auto it = watches_.find(static_cast<std::uint64_t>(id));
  SM_CHECK(it != watches_.end());
  epoll_event event{.events = events, .data = {.u64 = it->first}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, it->second->fd, &event) < 0) {
    return fail_errno("epoll_ctl modify", errno);
  }
  return {};
}

void EventLoop::remove(WatchId id) {
  const auto it = watches_.find(static_cast<std::uint64_t>(id));
  if (it == watches_.end()) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, it->second->fd, nullptr);
  watches_.erase(it);
}

TimerId EventLoop::add_timer(TimePoint at, Task task) {
  const std::uint64_t id = next_id_++;
  timers_.emplace(std::make_pair(at, id), std::move(task));
  timer_times_.emplace(id, at);
  return TimerId{id};
}

void EventLoop::cancel_timer(TimerId id) {
  const auto it = timer_times_.find(static_cast<std::uint64_t>(id));
  if (it == timer_times_.end()) return;
  timers_.erase({it->second, it->first});
  timer_times_.erase(it);
}

void EventLoop::wake() {
  const std::uint64_t one = 1;
  // EAGAIN means the counter is already non-zero: the loop will wake.
  if (::write(wake_.get(), &one, sizeof(one)) < 0) SM_CHECK(errno == EAGAIN);
}

void EventLoop::post(Task task) {
  {
    std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(task));
  }
  wake();
}

void EventLoop::stop() {
  stopping_.store(true, std::memory_order_release);
  wake();
}

void EventLoop::run_posted() {
  std::vector<Task> tasks;
  {
    std::lock_guard lock(posted_mutex_);
    tasks.swap(posted_);
  }
  for (Task& task : tasks) task();
}

void EventLoop::run_due_timers() {
  const TimePoint t = now();
  while (!timers_.empty() && timers_.begin()->first.first <= t) {
    auto node = timers_.extract(timers_.begin());
    timer_times_.erase(node.key().second);
    node.mapped()();
  }
}

int EventLoop::timeout_ms(const Deadline* limit) const {
  int timeout = limit == nullptr ? -1 : limit->poll_timeout_ms();
  if (!timers_.empty()) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first.first - now()).count();
    const int ms = left <= 0 ? 0 : left > 1'000'000 ? 1'000'000 : static_cast<int>(left);
    if (timeout < 0 || ms < timeout) timeout = ms;
  }
  return timeout;
}

void EventLoop::turn(const Deadline* limit) {
  std::array<epoll_event, 64> events;
  const int n =
      ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout_ms(limit));
  SM_CHECK(n >= 0 || errno == EINTR);
  for (int i = 0; i < n; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    const std::uint64_t token = event.data.u64;  // epoll_event is packed: no reference into it
    if (token == kWakeToken) {
      std::uint64_t count = 0;
      if (::read(wake_.get(), &count, sizeof(count)) < 0) SM_CHECK(errno == EAGAIN);
      continue;
    }
    // A callback earlier in this batch may have removed this watch.
    const auto it = watches_.find(token);
    if (it == watches_.end()) continue;
    const std::shared_ptr<Watch> keep_alive = it->second;
    keep_alive->callback(event.events);
  }
  run_due_timers();
  run_posted();
}

void EventLoop::run() {
  while (!stopping_.load(std::memory_order_acquire)) turn(nullptr);
}

void EventLoop::run_once(Deadline deadline) { turn(&deadline); }

}  // namespace sm
