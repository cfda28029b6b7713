// The two directions of a process's standard streams: frames with windows on one side, a pipe or a
// pty on the other. Nothing is buffered beyond one window, and of input what a
// connection before has left. The loop's thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "agent/fd_watch.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "common/byte_queue.h"
#include "proto/agent.h"

namespace sm::guest {

class Connection;

// Host to guest. Bytes may arrive before start(); they wait.
class InputStream {
 public:
  InputStream(Connection& connection, EventLoop& loop);

  void start(UniqueFd fd, bool is_pty);
  // kLimit when the peer sent more than its window.
  Status receive(std::span<const std::byte> bytes);
  // The peer's end of file: the descriptor is closed behind the last byte.
  void receive_end();
  // Closes at once; later bytes are ignored.
  void close();
  // Another one, with a window of its own; null: nobody is told what was written. An input that had
  // ended stays so: what another one sends is ignored.
  void set_connection(Connection* connection);

 private:
  void pump();
  void grant(std::size_t written);
  void end_pty_input();

  Connection* connection_;
  EventLoop& loop_;
  UniqueFd fd_;
  std::unique_ptr<FdWatch> watch_;
  ByteQueue queue_;
  std::uint32_t window_ = agent::kInitialWindow;
  std::uint32_t owed_ = 0;   // written, but not yet granted again
  std::size_t foreign_ = 0;  // in the queue, of the connection before
  bool over_ = false;        // ended by the connection before
  bool is_pty_ = false;
  bool ending_ = false;
  bool closed_ = false;
  bool line_open_ = false;  // pty: the last byte was not a newline
};

// Guest to host.
class OutputStream {
 public:
  OutputStream(Connection& connection, EventLoop& loop, agent::Stream stream,
               std::function<void()> on_finished);

  void start(UniqueFd fd, bool is_pty);
  void grant(std::uint32_t bytes);
  void on_room();
  // The process has ended: sends what is there now, without waiting for those who still hold the
  // other end.
  void process_ended();
  // Another one, with windows of its own; null: what comes is dropped, so that its writer need not
  // wait, unless it is held.
  void set_connection(Connection* connection);
  // Without a connection: what comes waits, from now on, and is dropped after all.
  void hold() { held_ = true; }
  void drop();
  // Nothing to wait for: never started, or ended.
  bool finished() const { return !fd_.valid(); }

 private:
  void pump();
  bool read_once();
  bool has_more_now() const;
  bool has_room() const;
  void update_watch();
  void finish();

  Connection* connection_;
  EventLoop& loop_;
  agent::Stream stream_;
  std::function<void()> on_finished_;
  UniqueFd fd_;
  std::unique_ptr<FdWatch> watch_;
  std::uint64_t credit_ = agent::kInitialWindow;
  std::uint64_t remaining_ = 0;  // once the process has ended
  bool is_pty_ = false;
  bool process_ended_ = false;
  bool held_ = false;
};

}  // namespace sm::guest
