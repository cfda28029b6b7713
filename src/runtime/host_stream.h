// Host file descriptors as event-driven streams: whatever standard input and output are (terminal,
// pipe, socket, file, /dev/null), reading and writing them never blocks the loop. Thread: the
// loop's.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace sm {

// Writes queued bytes to a descriptor it does not own.
class OutputStream {
 public:
  // on_written(n): n more bytes left the queue. on_broken: the reader is gone (EPIPE) or the device
  // failed; everything queued from now on is dropped and reported as written.
  OutputStream(EventLoop& loop, int fd, std::function<void(std::size_t)> on_written,
               std::function<void(Error)> on_broken);
  ~OutputStream();
  OutputStream(const OutputStream&) = delete;
  OutputStream& operator=(const OutputStream&) = delete;
  OutputStream(OutputStream&&) = delete;
  OutputStream& operator=(OutputStream&&) = delete;

  void write(std::span<const std::byte> bytes);
  bool empty() const { return queue_.empty(); }

 private:
  enum class Kind { kPollable, kSocket, kDirect };
  void drain();
  ssize_t write_some(std::span<const std::byte> bytes);
  void want_writable(bool wanted);

  EventLoop& loop_;
  UniqueFd reopened_;  // our own non-blocking description of a pipe or terminal
  int fd_;
  Kind kind_ = Kind::kDirect;
  std::function<void(std::size_t)> on_written_;
  std::function<void(Error)> on_broken_;
  std::deque<std::byte> queue_;
  WatchId watch_ = WatchId::kNone;
  bool broken_ = false;
};

// Reads a descriptor it does not own, as fast as its consumer has room.
class InputStream {
 public:
  // on_data with empty bytes: end of file or error; nothing follows.
  InputStream(EventLoop& loop, int fd, std::function<std::size_t()> room,
              std::function<void(std::span<const std::byte>)> on_data);
  ~InputStream();
  InputStream(const InputStream&) = delete;
  InputStream& operator=(const InputStream&) = delete;
  InputStream(InputStream&&) = delete;
  InputStream& operator=(InputStream&&) = delete;

  // Looks again whether the consumer has room.
  void resume();
  void stop();

 private:
  void read_once();
  void schedule();

  EventLoop& loop_;
  int fd_;
  std::function<std::size_t()> room_;
  std::function<void(std::span<const std::byte>)> on_data_;
  WatchId watch_ = WatchId::kNone;
  bool always_ready_ = false;  // regular files cannot be polled
  bool scheduled_ = false;
  bool ended_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sm
