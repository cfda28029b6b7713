#include "runtime/health_check.h"

#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace sm {

namespace {

// Docker refuses less, since each check is a process.
constexpr Duration kShortest = std::chrono::milliseconds(1);
constexpr double kLongestNs = 1e9 * 3600 * 24 * 3650;

struct Unit {
  std::string_view name;
  double ns;
};
constexpr std::array<Unit, 6> kUnits = {Unit{"ns", 1},  Unit{"us", 1e3}, Unit{"ms", 1e6},
                                        Unit{"s", 1e9}, Unit{"m", 60e9}, Unit{"h", 3600e9}};

// The number and unit that `text` begins with, taken from it.
std::optional<double> take_part(std::string_view& text) {
  double number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc() || std::signbit(number) || !std::isfinite(number)) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  const auto name = text.substr(0, text.find_first_of("0123456789."));
  for (const Unit& unit : kUnits) {
    if (name != unit.name) continue;
    text.remove_prefix(name.size());
    return number * unit.ns;
  }
  return std::nullopt;
}

Status set_duration(const char* option, const std::string& text, Duration least, Duration& out) {
  if (text.empty()) return {};
  const auto parsed = parse_duration(text);
  // 0 is Docker's "as it is".
  if (parsed && *parsed == Duration{}) return {};
  if (!parsed || *parsed < least) {
    return fail(Code::kInvalidArgument, std::string(option) + " " + text + " is no such time",
                "write numbers with ms, s, m or h, such as 1m30s");
  }
  out = *parsed;
  return {};
}

void set_duration(std::uint64_t ns, Duration& out) {
  if (ns > 0 && static_cast<double>(ns) <= kLongestNs)
    out = Duration(static_cast<std::int64_t>(ns));
}

std::vector<std::string> argv_of(const std::vector<std::string>& test) {
  if (test.size() >= 2 && test[0] == "CMD") return {test.begin() + 1, test.end()};
  if (test.size() == 2 && test[0] == "CMD-SHELL") return {"/bin/sh", "-c", test[1]};
  return {};
}

}  // namespace

std::optional<Duration> parse_duration(std::string_view text) {
  if (text == "0") return Duration{};
  if (text.empty()) return std::nullopt;
  double sum = 0;
  while (!text.empty()) {
    const auto part = take_part(text);
    if (!part) return std::nullopt;
    sum += *part;
  }
  if (sum > kLongestNs) return std::nullopt;
  return Duration(static_cast<std::int64_t>(sum));
}

Result<std::optional<HealthCheck>> resolve_health(const HealthFlags& flags,
                                                  const ImageConfig& image) {
  const bool tuned = !flags.interval.empty() || !flags.timeout.empty() ||
                     !flags.start_period.empty() || flags.retries.has_value();
  if (flags.none && (tuned || !flags.command.empty())) {
    return fail(Code::kInvalidArgument, "--no-healthcheck contradicts the other --health options",
                "leave it, or those, out");
  }
  HealthCheck out;
  if (const auto& said = image.healthcheck) {
    out.argv = argv_of(said->test);
    set_duration(said->interval_ns, out.interval);
    set_duration(said->timeout_ns, out.timeout);
    set_duration(said->start_period_ns, out.start_period);
    if (said->retries > 0 && said->retries <= UINT32_MAX) {
      out.retries = static_cast<std::uint32_t>(said->retries);
    }
  }
  if (!flags.command.empty()) out.argv = {"/bin/sh", "-c", flags.command};
  SM_TRY_STATUS(set_duration("--health-interval", flags.interval, kShortest, out.interval));
  SM_TRY_STATUS(set_duration("--health-timeout", flags.timeout, kShortest, out.timeout));
  SM_TRY_STATUS(
      set_duration("--health-start-period", flags.start_period, kShortest, out.start_period));
  if (flags.retries.value_or(0) > 0) out.retries = *flags.retries;
  if (flags.none || out.argv.empty()) return std::optional<HealthCheck>();
  return std::optional(std::move(out));
}

std::string_view health_text(Health health) {
  switch (health) {
    case Health::kStarting:
      return "starting";
    case Health::kHealthy:
      return "healthy";
    case Health::kUnhealthy:
      break;
  }
  return "unhealthy";
}

Health HealthTally::add(bool passed, Duration running_for) {
  if (passed) {
    failures_ = 0;
    health_ = Health::kHealthy;
  } else if (health_ != Health::kStarting || running_for >= start_period_) {
    if (failures_ < UINT32_MAX) ++failures_;
    if (failures_ >= retries_) health_ = Health::kUnhealthy;
  }
  return health_;
}

}  // namespace sm
