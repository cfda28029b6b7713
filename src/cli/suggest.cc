#include "cli/suggest.h"

#include <algorithm>

namespace sm {

namespace {
constexpr std::size_t kLongest = 64;  // longer words have no typos, but other problems
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  // Rows of the table of distances between beginnings: the last two, and the one that grows.
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t exchange = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, exchange});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(last);
    last.swap(row);
  }
  return last[b.size()];
}

std::string nearest_word(std::string_view word, const std::vector<std::string>& known) {
  if (word.size() < 2 || word.size() > kLongest) return {};
  // One mistake in a short word, one more for every four letters.
  std::size_t best = 1 + word.size() / 4;
  std::string found;
  for (const auto& candidate : known) {
    std::size_t distance = edit_distance(word, candidate);
    // Somebody who stops early: "hist".
    if (word.size() >= 3 && candidate.starts_with(word))
      distance = std::min<std::size_t>(1, distance);
    // A word that shares no letter is no typo.
    if (distance >= std::min(word.size(), candidate.size())) continue;
    if (distance < best || (distance == best && found.empty())) {
      best = distance;
      found = candidate;
    }
  }
  return found;
}

}  // namespace sm
