// Log: where diagnostics go. Passed by reference, never global. Any thread.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/result.h"

namespace spdlog {
class logger;
}

namespace sm {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError, kOff };

// "debug" | "info" | "warning" | "error" | "off".
Result<LogLevel> parse_log_level(std::string_view text);

class Log {
 public:
  // Lines go to standard error as "<prefix>: <level>: <text>".
  Log(const std::string& prefix, LogLevel level);
  // A log that drops everything (tests).
  static Log none() { return Log("", LogLevel::kOff); }

  bool enabled(LogLevel level) const { return level >= level_ && level_ != LogLevel::kOff; }

  template <class... A>
  void debug(fmt::format_string<A...> f, A&&... a) {
    if (enabled(LogLevel::kDebug)) write(LogLevel::kDebug, fmt::format(f, std::forward<A>(a)...));
  }
  template <class... A>
  void info(fmt::format_string<A...> f, A&&... a) {
    if (enabled(LogLevel::kInfo)) write(LogLevel::kInfo, fmt::format(f, std::forward<A>(a)...));
  }
  template <class... A>
  void warning(fmt::format_string<A...> f, A&&... a) {
    if (enabled(LogLevel::kWarning))
      write(LogLevel::kWarning, fmt::format(f, std::forward<A>(a)...));
  }
  template <class... A>
  void error(fmt::format_string<A...> f, A&&... a) {
    if (enabled(LogLevel::kError)) write(LogLevel::kError, fmt::format(f, std::forward<A>(a)...));
  }

  // For messages that a guest can provoke: at most kGuestBurst per second, the rest is counted and
  // reported with the next one that passes.
  template <class... A>
  void guest_warning(fmt::format_string<A...> f, A&&... a) {
    if (enabled(LogLevel::kWarning) && admit_guest_message()) {
      write(LogLevel::kWarning, fmt::format(f, std::forward<A>(a)...));
    }
  }

 private:
  static constexpr std::uint32_t kGuestBurst = 10;

  void write(LogLevel level, const std::string& text);
  bool admit_guest_message();

  LogLevel level_;
  std::shared_ptr<spdlog::logger> logger_;
  std::atomic<std::uint64_t> window_start_ns_{0};
  std::atomic<std::uint32_t> in_window_{0};
  std::atomic<std::uint64_t> suppressed_{0};

 public:
  Log(Log&& other) noexcept : level_(other.level_), logger_(std::move(other.logger_)) {}
  Log& operator=(Log&&) = delete;
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;
  ~Log();
};

}  // namespace sm
