// The worker's end of the control socket: says what happens, hears what to do. Thread: main loop.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/control.h"

namespace sm {

class ControlSocket {
 public:
  struct Callbacks {
    // The parent asked for the end, is gone, or sent nonsense. The last call.
    std::function<void()> on_stop;
    // False: it waits for none.
    std::function<bool(const control::RestoreRequest&)> on_restore;
    // With the descriptors that came with it, as many as the request needs.
    std::function<void(const control::SnapshotRequest&, std::vector<UniqueFd>)> on_snapshot;
    std::function<void(const control::PauseRequest&)> on_pause;
    std::function<control::Stats()> stats;
  };
  // Takes over an inherited descriptor and says hello.
  static Result<std::unique_ptr<ControlSocket>> open(EventLoop& loop, int fd, Callbacks callbacks);
  ~ControlSocket();
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;
  ControlSocket(ControlSocket&&) = delete;
  ControlSocket& operator=(ControlSocket&&) = delete;

  void send(const control::Message& message);

 private:
  ControlSocket(EventLoop& loop, UniqueFd socket, Callbacks callbacks);
  void on_readable();
  bool receive();
  bool handle(const control::Message& message);
  void close_and_stop();

  EventLoop& loop_;
  UniqueFd socket_;
  Callbacks callbacks_;
  control::MessageParser parser_;
  std::vector<UniqueFd> descriptors_;  // received and not used yet
  WatchId watch_ = WatchId::kNone;
};

}  // namespace sm
