// The agent's listening socket: vsock port agent::kPort, connections of the host only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "agent/fd_watch.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace sm::guest {

class VsockListener {
 public:
  using OnConnection = std::function<void(UniqueFd)>;

  static Result<std::unique_ptr<VsockListener>> open(EventLoop& loop, std::uint32_t port,
                                                     OnConnection on_connection);

 private:
  VsockListener(EventLoop& loop, UniqueFd fd, OnConnection on_connection);
  void accept_one();
  void pause();

  EventLoop& loop_;
  UniqueFd fd_;
  OnConnection on_connection_;
  FdWatch watch_;
};

}  // namespace sm::guest
