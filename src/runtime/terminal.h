// The user's terminal: raw mode for a session, window size.
#pragma once

#include <termios.h>

#include <optional>

#include "base/result.h"
#include "proto/agent.h"

namespace sm {

// Puts a terminal into raw mode and back. The destructor restores it; call restore() before any
// message to the user. Not on a signal: signals arrive through the event loop.
class RawTerminal {
 public:
  static Result<RawTerminal> enter(int fd);
  RawTerminal(RawTerminal&& other) noexcept;
  RawTerminal& operator=(RawTerminal&&) = delete;
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
  ~RawTerminal() { restore(); }
  void restore();

 private:
  RawTerminal(int fd, const termios& saved) : fd_(fd), saved_(saved) {}
  int fd_;
  termios saved_;
};

// Rows and columns of a terminal; nothing when fd is none.
std::optional<agent::WindowSize> window_size(int fd);

}  // namespace sm
