// FdWatch: one descriptor's place in the event loop, absent from it while nothing is wanted (an
// epoll watch without events would still report hang-ups, for ever). The loop's thread only.
#pragma once

#include <cstdint>
#include <utility>

#include "base/check.h"
#include "base/event_loop.h"

namespace sm::guest {

class FdWatch {
 public:
  // The caller keeps the descriptor open for longer than the watch.
  FdWatch(EventLoop& loop, int fd, EventLoop::FdCallback callback)
      : loop_(loop), fd_(fd), callback_(std::move(callback)) {}
  ~FdWatch() { want(0); }
  FdWatch(const FdWatch&) = delete;
  FdWatch& operator=(const FdWatch&) = delete;

  void want(std::uint32_t events) {
    if (events == wanted_) return;
    if (events == 0) {
      loop_.remove(id_);
    } else if (wanted_ == 0) {
      auto id = loop_.add(fd_, events, callback_);
      SM_CHECK(id.has_value());
      id_ = *id;
    } else {
      SM_CHECK(loop_.modify(id_, events).has_value());
    }
    wanted_ = events;
  }

 private:
  EventLoop& loop_;
  int fd_;
  EventLoop::FdCallback callback_;
  std::uint32_t wanted_ = 0;
  WatchId id_ = WatchId::kNone;
};

}  // namespace sm::guest
