// HealthCheck: the command that tells whether a VM's workload does its work, from the image and the
// options of `run`; HealthTally: what its results mean. Pure. Docker's meaning of both.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "oci/image_config.h"

namespace sm {

// --health-* and --no-healthcheck as they were typed.
struct HealthFlags {
  std::string command;                          // for the shell
  std::string interval, timeout, start_period;  // "1m30s"; empty: not given
  std::optional<std::uint32_t> retries;
  bool none = false;
};

struct HealthCheck {
  std::vector<std::string> argv;
  Duration interval = std::chrono::seconds(30);
  Duration timeout = std::chrono::seconds(30);  // a check that takes longer has failed
  Duration start_period{};    // so long failures do not count, until the first success
  std::uint32_t retries = 3;  // so many failures in a row: unhealthy
};

// Nothing: there is no check. kInvalidArgument names the option; what the image says wrongly is
// taken as not said.
Result<std::optional<HealthCheck>> resolve_health(const HealthFlags& flags,
                                                  const ImageConfig& image);
// "300ms", "1m30s", "1.5h", "0": a sum of numbers with ns, us, ms, s, m or h. At most ten years.
std::optional<Duration> parse_duration(std::string_view text);

enum class Health : std::uint8_t { kStarting, kHealthy, kUnhealthy };
std::string_view health_text(Health health);

class HealthTally {
 public:
  explicit HealthTally(const HealthCheck& check)
      : retries_(check.retries), start_period_(check.start_period) {}
  // `running_for`: since the workload's start.
  Health add(bool passed, Duration running_for);
  Health health() const { return health_; }
  std::uint32_t failures() const { return failures_; }  // in a row

 private:
  std::uint32_t retries_;
  Duration start_period_;
  Health health_ = Health::kStarting;
  std::uint32_t failures_ = 0;
};

}  // namespace sm
