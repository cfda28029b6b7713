#include "runtime/terminal.h"

#include <sys/ioctl.h>

#include <cerrno>
#include <utility>

namespace sm {

Result<RawTerminal> RawTerminal::enter(int fd) {
  termios saved{};
  if (::tcgetattr(fd, &saved) < 0) return fail_errno("read terminal settings", errno);
  termios raw = saved;
  ::cfmakeraw(&raw);
  if (::tcsetattr(fd, TCSADRAIN, &raw) < 0) return fail_errno("set terminal to raw mode", errno);
  return RawTerminal(fd, saved);
}

RawTerminal::RawTerminal(RawTerminal&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), saved_(other.saved_) {}

void RawTerminal::restore() {
  if (fd_ >= 0) ::tcsetattr(std::exchange(fd_, -1), TCSADRAIN, &saved_);
}

std::optional<agent::WindowSize> window_size(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) < 0) return std::nullopt;
  return agent::WindowSize{size.ws_row, size.ws_col};
}

}  // namespace sm
