#include "base/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

namespace sm {

namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::off;
}

}  // namespace

Result<LogLevel> parse_log_level(std::string_view text) {
  if (text == "debug") return LogLevel::kDebug;
  if (text == "info") return LogLevel::kInfo;
  if (text == "warning") return LogLevel::kWarning;
  if (text == "error") return LogLevel::kError;
  if (text == "off") return LogLevel::kOff;
  return fail(Code::kInvalidArgument, "unknown log level '" + std::string(text) + "'",
              "use debug, info, warning, error or off");
}

Log::Log(const std::string& prefix, LogLevel level) : level_(level) {
  if (level == LogLevel::kOff) return;
  auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  logger_ = std::make_shared<spdlog::logger>(prefix, std::move(sink));
  logger_->set_level(to_spdlog(level));
  logger_->set_pattern("%n: %l: %v");
  logger_->flush_on(spdlog::level::debug);
}

Log::~Log() = default;

void Log::write(LogLevel level, const std::string& text) {
  if (logger_) logger_->log(to_spdlog(level), text);
}

bool Log::admit_guest_message() {
  constexpr std::uint64_t kWindowNs = 1'000'000'000;
  const std::uint64_t t = monotonic_ns();
  std::uint64_t start = window_start_ns_.load(std::memory_order_relaxed);
  if (t - start >= kWindowNs && window_start_ns_.compare_exchange_strong(start, t)) {
    in_window_.store(0, std::memory_order_relaxed);
    const auto dropped = suppressed_.exchange(0, std::memory_order_relaxed);
    if (dropped > 0) {
      write(LogLevel::kWarning,
            fmt::format("{} similar messages caused by the guest dropped", dropped));
    }
  }
  if (in_window_.fetch_add(1, std::memory_order_relaxed) < kGuestBurst) return true;
  suppressed_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

}  // namespace sm
