#include "runtime/keeper/signal_names.h"

#include <signal.h>
#include <string.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

namespace sm {

namespace {

constexpr int kLastSignal = 64;
constexpr int kRealTimeFirst = 34;  // as C libraries number them for programs

std::optional<int> number_of(std::string_view text) {
  int out = 0;
  const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || at != text.data() + text.size()) return std::nullopt;
  return out;
}

std::optional<int> lookup(std::string name) {
  if (const auto number = number_of(name)) return number;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (name.starts_with("SIG")) name.erase(0, 3);
  if (name == "RTMIN") return kRealTimeFirst;
  if (name == "RTMAX") return kLastSignal;
  if (name.starts_with("RTMIN+")) {
    const auto more = number_of(std::string_view(name).substr(6));
    return more && *more >= 0 && *more <= 30 ? std::optional(kRealTimeFirst + *more) : std::nullopt;
  }
  for (int n = 1; n < kRealTimeFirst; ++n) {
    const char* known = ::sigabbrev_np(n);
    if (known != nullptr && name == known) return n;
  }
  return std::nullopt;
}

}  // namespace

Result<int> parse_signal(const std::string& text) {
  const auto number = lookup(text);
  if (number && *number >= 1 && *number <= kLastSignal) return *number;
  return fail(Code::kInvalidArgument, "'" + text + "' is no signal",
              "use a name such as TERM or a number from 1 to 64");
}

}  // namespace sm
