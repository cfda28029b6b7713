#include "cli/sizes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <utility>

namespace sm {

std::string human_size(std::uint64_t bytes) {
  constexpr std::array<const char*, 6> kUnits = {"B", "kB", "MB", "GB", "TB", "PB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  if (unit == 0) return fmt::format("{}B", bytes);
  const int decimals = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f}{}", value, decimals, kUnits[unit]);
}

std::string human_age(std::string_view rfc3339) {
  std::tm tm{};
  const std::string text(rfc3339);
  if (::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &tm) == nullptr) return "N/A";
  const auto seconds = std::max<std::int64_t>(0, std::time(nullptr) - ::timegm(&tm));
  constexpr std::array<std::pair<std::int64_t, const char*>, 6> kUnits = {{{365LL * 86400, "year"},
                                                                           {30LL * 86400, "month"},
                                                                           {7LL * 86400, "week"},
                                                                           {86400, "day"},
                                                                           {3600, "hour"},
                                                                           {60, "minute"}}};
  for (const auto& [length, name] : kUnits) {
    const auto count = seconds / length;
    if (count >= 1) return fmt::format("{} {}{} ago", count, name, count == 1 ? "" : "s");
  }
  return "just now";
}

void print_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += i + 1 == row.size() ? row[i] : fmt::format("{:<{}}", row[i], widths[i] + 3);
    }
    fmt::print("{}\n", line);
  }
}

}  // namespace sm
