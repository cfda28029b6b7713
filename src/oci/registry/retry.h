// Backoff: when to try a request again, and the wait before it. One thread at a time.
#pragma once

#include <optional>
#include <stop_token>

#include "base/clock.h"
#include "base/result.h"
#include "oci/registry/http_client.h"

namespace sm {

struct RetryPolicy {
  int attempts = 5;  // in all, without progress between them
  Duration first = std::chrono::milliseconds(500);
  Duration longest = std::chrono::seconds(20);
  // A server that asks for a longer pause is not waited for.
  Duration longest_asked = std::chrono::seconds(120);
};

// Statuses that may pass: 408, 429, 500, 502, 503, 504.
bool is_transient(long status);
// Errors that may pass: broken connections and timeouts.
bool is_transient(const Error& error);
// The Retry-After of an answer, in either of its forms; nothing when there is none.
std::optional<Duration> retry_after(const HttpResponse& response);

class Backoff {
 public:
  Backoff(const RetryPolicy& policy, std::stop_token stop)
      : policy_(policy), stop_(std::move(stop)) {}

  // Waits before the next attempt: exponentially longer, half of it random; or as long as the
  // server asks. `cause` comes back when there are no attempts left, when the server asks for too
  // much and after a stop request.
  Status wait(Error cause, std::optional<Duration> asked = std::nullopt);
  // Something was achieved: counting begins anew.
  void made_progress() { failures_ = 0; }

 private:
  RetryPolicy policy_;
  std::stop_token stop_;
  int failures_ = 0;
};

}  // namespace sm
