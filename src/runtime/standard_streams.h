// StandardStreams: this process's standard streams and terminal, tied to a program in a guest.
// Thread: the loop's.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "base/event_loop.h"
#include "base/result.h"
#include "proto/agent.h"
#include "runtime/host_stream.h"
#include "runtime/terminal.h"

namespace sm {

class StandardStreams {
 public:
  struct Callbacks {
    // So many bytes of write() have reached their reader.
    std::function<void(agent::Stream, std::size_t)> on_written;
    // Nobody reads the output any more.
    std::function<void()> on_broken;
    std::function<std::size_t()> input_room;
    // Empty: the end of the input.
    std::function<void(std::span<const std::byte>)> on_input;
  };

  StandardStreams(EventLoop& loop, Callbacks callbacks);
  // Opens the output, and with `input` the standard input; a terminal of it becomes raw with `tty`.
  Status start(bool input, bool tty);
  bool started() const { return output_[0] != nullptr; }
  void write(agent::Stream stream, std::span<const std::byte> bytes);
  // All that was written has left.
  bool drained() const;
  void resume_input();
  void stop_input();
  // Closes the input and gives the terminal back.
  void release();

 private:
  EventLoop& loop_;
  Callbacks callbacks_;
  std::optional<RawTerminal> terminal_;
  std::unique_ptr<InputStream> input_;
  std::unique_ptr<OutputStream> output_[2];
};

}  // namespace sm
