#include "cli/times.h"

#include <charconv>
#include <cmath>
#include <ctime>
#include <optional>

namespace sm {

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
// Nanoseconds of later years do not fit.
constexpr double kLatest = 9e9;

std::optional<std::int64_t> parse_span(std::string_view text) {
  double total = 0;
  while (!text.empty()) {
    double value = 0;
    const auto [at, error] =
        std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
    if (error != std::errc() || value < 0) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(at - text.data()));
    if (text.starts_with("ms")) {
      total += value / 1000;
      text.remove_prefix(2);
      continue;
    }
    const char unit = text.empty() ? '\0' : text[0];
    const double scale = unit == 's' ? 1 : unit == 'm' ? 60 : unit == 'h' ? 3600 : 0;
    if (scale == 0) return std::nullopt;
    total += value * scale;
    text.remove_prefix(1);
  }
  if (!(total <= kLatest)) return std::nullopt;
  return static_cast<std::int64_t>(total * 1e9);
}

std::optional<std::int64_t> parse_seconds(std::string_view text) {
  double value = 0;
  const auto [at, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  const bool good =
      error == std::errc() && at == text.data() + text.size() && value >= 0 && value <= kLatest;
  if (!good) return std::nullopt;
  return static_cast<std::int64_t>(value * 1e9);
}

// Behind the seconds: a fraction, then the zone.
std::optional<std::int64_t> parse_date(const std::string& text) {
  std::tm tm{};
  const char* at = ::strptime(text.c_str(), "%Y-%m-%d", &tm);
  if (at == nullptr) return std::nullopt;
  if (*at == 'T') at = ::strptime(at, "T%H:%M:%S", &tm);
  if (at == nullptr) return std::nullopt;
  std::string_view rest(at);
  double fraction = 0;
  if (rest.starts_with('.')) {
    const auto [end, error] =
        std::from_chars(rest.data(), rest.data() + rest.size(), fraction, std::chars_format::fixed);
    if (error != std::errc()) return std::nullopt;
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
  }
  std::int64_t offset = 0;
  if (rest.size() == 6 && (rest[0] == '+' || rest[0] == '-') && rest[3] == ':') {
    std::tm zone{};
    if (::strptime(std::string(rest.substr(1)).c_str(), "%H:%M", &zone) == nullptr) {
      return std::nullopt;
    }
    offset = (zone.tm_hour * 3600 + zone.tm_min * 60) * (rest[0] == '+' ? 1 : -1);
    rest = {};
  }
  const bool utc = rest == "Z";
  if (!rest.empty() && !utc) return std::nullopt;
  tm.tm_isdst = -1;
  const bool local = !utc && offset == 0 && !text.ends_with("+00:00");
  const std::int64_t seconds = (local ? std::mktime(&tm) : ::timegm(&tm)) - offset;
  return seconds * kSecond + static_cast<std::int64_t>(std::llround(fraction * 1e9));
}

}  // namespace

Result<std::int64_t> parse_time(const std::string& text, std::int64_t now_ns) {
  if (!text.empty()) {
    if (const auto seconds = parse_seconds(text)) return *seconds;
    if (const auto span = parse_span(text)) return now_ns - *span;
    if (const auto date = parse_date(text)) return *date;
  }
  return fail(Code::kInvalidArgument, "'" + text + "' is not a time",
              "write 2026-01-31T12:00:00Z, seconds since 1970, or a span such as 10m");
}

}  // namespace sm
