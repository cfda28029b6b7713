// SocketPump: bytes both ways between two stream sockets, ends handed on. Thread: the loop's.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "base/event_loop.h"
#include "base/unique_fd.h"

namespace sm {

class SocketPump {
 public:
  // Both sockets are non-blocking. `on_end` comes once, from the loop, when both directions have
  // ended or one socket broke; it may destroy the pump.
  SocketPump(EventLoop& loop, UniqueFd a, UniqueFd b, std::function<void()> on_end);
  ~SocketPump();
  SocketPump(const SocketPump&) = delete;
  SocketPump& operator=(const SocketPump&) = delete;
  SocketPump(SocketPump&&) = delete;
  SocketPump& operator=(SocketPump&&) = delete;

 private:
  static constexpr std::size_t kBuffer = 64u << 10;

  struct Side {
    UniqueFd fd;
    WatchId watch = WatchId::kNone;
    std::uint32_t interest = 0;
    std::vector<std::byte> out;  // on its way to this side
    std::size_t out_start = 0;
    bool read_closed = false;
    bool write_closed = false;
  };
  void on_events(std::size_t index, std::uint32_t events);
  bool receive(Side& from, Side& to);
  bool flush(Side& side);
  void update(std::size_t index);
  void set_interest(std::size_t index, std::uint32_t wanted);
  void end_soon();

  EventLoop& loop_;
  std::array<Side, 2> sides_;
  std::function<void()> on_end_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sm
