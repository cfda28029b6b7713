// Small pieces of the values of flags.
#pragma once

#include <charconv>
#include <concepts>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sm {

// The whole text as a number, in that base.
template <std::integral T>
std::optional<T> parse_number(std::string_view text, int base = 10) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return {};
  return value;
}

inline tl::unexpected<Error> bad_flag(std::string_view flag, std::string_view value,
                                      std::string_view what, std::string remedy) {
  std::string cause(flag);
  cause.append(" ").append(value.empty() ? "''" : value).append(": ").append(what);
  return fail(Code::kInvalidArgument, std::move(cause), std::move(remedy));
}

}  // namespace sm
