// The worker's end of the control socket: says what happens, hears when to stop. Thread: main loop.
#pragma once

#include <functional>
#include <memory>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/control.h"

namespace sm {

class ControlSocket {
 public:
  // Takes over an inherited descriptor and says hello. on_stop: the parent asked for the end, is
  // gone, or sent nonsense.
  static Result<std::unique_ptr<ControlSocket>> open(EventLoop& loop, int fd,
                                                     std::function<void()> on_stop);
  ~ControlSocket();
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;
  ControlSocket(ControlSocket&&) = delete;
  ControlSocket& operator=(ControlSocket&&) = delete;

  void send(const control::Message& message);

 private:
  ControlSocket(EventLoop& loop, UniqueFd socket, std::function<void()> on_stop);
  void on_readable();
  void close_and_stop();

  EventLoop& loop_;
  UniqueFd socket_;
  std::function<void()> on_stop_;
  control::MessageParser parser_;
  WatchId watch_ = WatchId::kNone;
};

}  // namespace sm
