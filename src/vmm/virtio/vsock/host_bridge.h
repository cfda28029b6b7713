// VsockUnixListener: a unix socket on the host whose connections are handed on, each to be bridged
// to a port of the guest. Thread: the loop's; takes no locks.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>

#include "base/event_loop.h"
#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace sm {

class VsockUnixListener {
 public:
  using OnConnection = std::function<void(UniqueFd)>;

  // Creates the socket file, mode 0600, and listens. Connections wait in the kernel's queue until
  // start(). A path that exists is never touched: kInvalidArgument.
  static Result<std::unique_ptr<VsockUnixListener>> create(EventLoop& loop, Log& log,
                                                           std::string path,
                                                           OnConnection on_connection);
  // Closes and removes the socket file if it is still the one that create() made.
  ~VsockUnixListener();
  VsockUnixListener(const VsockUnixListener&) = delete;
  VsockUnixListener& operator=(const VsockUnixListener&) = delete;
  VsockUnixListener(VsockUnixListener&&) = delete;
  VsockUnixListener& operator=(VsockUnixListener&&) = delete;

  // Accepts from now on. Idempotent.
  Status start();
  const std::string& path() const { return path_; }

 private:
  VsockUnixListener(EventLoop& loop, Log& log, std::string path, UniqueFd socket,
                    OnConnection on_connection);
  Status remember_file();
  void accept_some();
  bool peer_is_ours(int fd) const;
  void pause();

  EventLoop* loop_;
  Log* log_;
  std::string path_;
  UniqueFd socket_;
  OnConnection on_connection_;
  WatchId watch_ = WatchId::kNone;
  TimerId retry_ = TimerId::kNone;
  bool file_known_ = false;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

// Connects to a unix socket without waiting: kGone when nobody listens or its queue is full.
Result<UniqueFd> connect_unix(const std::string& path);

}  // namespace sm
