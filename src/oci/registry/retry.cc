// Waiting between attempts.
#include "oci/registry/retry.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <ctime>
#include <mutex>
#include <random>
#include <string>

namespace sm {
namespace {

// Ends early on a stop request.
void pause(Duration duration, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any nobody_signals;
  std::unique_lock lock(mutex);
  nobody_signals.wait_for(lock, stop, duration, [] { return false; });
}

// Many clients that failed together must not come back together.
Duration with_jitter(Duration duration) {
  std::random_device source;
  std::uniform_int_distribution<Duration::rep> part(duration.count() / 2, duration.count());
  return Duration(part(source));
}

}  // namespace

bool is_transient(long status) {
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 ||
         status == 504;
}

bool is_transient(const Error& error) {
  return error.code() == Code::kGone || error.code() == Code::kTimeout;
}

std::optional<Duration> retry_after(const HttpResponse& response) {
  const std::string text(response.header("retry-after"));
  if (text.empty()) return std::nullopt;
  std::uint32_t seconds = 0;
  const auto* end = text.data() + text.size();
  if (std::from_chars(text.data(), end, seconds).ptr == end) return std::chrono::seconds(seconds);
  const std::time_t at = curl_getdate(text.c_str(), nullptr);
  if (at < 0) return std::nullopt;
  return std::chrono::seconds(std::clamp<std::int64_t>(at - std::time(nullptr), 0, 1U << 30U));
}

Status Backoff::wait(Error cause, std::optional<Duration> asked) {
  if (stop_.stop_requested()) return fail(std::move(cause));
  if (++failures_ >= policy_.attempts) return fail(std::move(cause));
  if (asked && *asked > policy_.longest_asked) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(*asked).count();
    return fail(cause.code(),
                cause.cause() + "; it asks for a pause of " + std::to_string(seconds) + " s",
                cause.remedy());
  }
  const auto grown = policy_.first * (1LL << std::min(failures_ - 1, 20));
  pause(asked ? *asked : with_jitter(std::min<Duration>(grown, policy_.longest)), stop_);
  if (stop_.stop_requested()) return fail(Code::kGone, "cancelled");
  return {};
}

}  // namespace sm
