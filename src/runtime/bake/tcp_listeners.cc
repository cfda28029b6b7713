#include "runtime/bake/tcp_listeners.h"

#include <charconv>
#include <vector>

namespace sm {

namespace {

constexpr std::size_t kMaxListeners = 4096;
constexpr std::size_t kMaxAddress = 32;  // IPv6 in hexadecimal
constexpr std::string_view kListening = "0A";

// "  sl  local_address rem_address   st ...": the first four words of a line.
std::vector<std::string_view> first_words(std::string_view line) {
  std::vector<std::string_view> out;
  while (out.size() < 4) {
    const auto start = line.find_first_not_of(' ');
    if (start == std::string_view::npos) break;
    const auto end = line.find(' ', start);
    out.push_back(line.substr(start, end == std::string_view::npos ? end : end - start));
    if (end == std::string_view::npos) break;
    line.remove_prefix(end);
  }
  return out;
}

}  // namespace

std::set<TcpListener> parse_tcp_listeners(std::string_view text) {
  std::set<TcpListener> out;
  while (!text.empty() && out.size() < kMaxListeners) {
    const auto end = text.find('\n');
    const auto words = first_words(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (words.size() < 4 || words[3] != kListening) continue;
    const auto colon = words[1].find(':');
    if (colon == std::string_view::npos || colon == 0 || colon > kMaxAddress) continue;
    const std::string_view digits = words[1].substr(colon + 1);
    std::uint16_t port = 0;
    const auto [rest, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), port, 16);
    if (error != std::errc() || rest != digits.data() + digits.size() || port == 0) continue;
    out.insert({std::string(words[1].substr(0, colon)), port});
  }
  return out;
}

}  // namespace sm
