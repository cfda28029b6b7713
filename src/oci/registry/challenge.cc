// Parsing of WWW-Authenticate.
#include "oci/registry/challenge.h"

#include <optional>

#include "oci/text.h"

namespace sm {
namespace {

constexpr std::size_t kMaxChallenges = 16;
constexpr std::size_t kMaxParams = 32;
constexpr std::size_t kMaxValue = 16384;

bool is_token_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         (c != '\0' && std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos);
}

// The text from a position on.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : rest_(text) {}

  bool at_end() const { return rest_.empty(); }
  bool take(char c) {
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool skip_blanks() {
    const auto before = rest_.size();
    while (take(' ') || take('\t')) {
    }
    return rest_.size() != before;
  }
  void skip_commas() {
    do skip_blanks();
    while (take(','));
  }
  std::string token() {
    std::size_t end = 0;
    while (end < rest_.size() && is_token_char(rest_[end])) ++end;
    std::string out(rest_.substr(0, end));
    rest_.remove_prefix(end);
    return out;
  }
  // After the opening quote.
  std::optional<std::string> quoted() {
    std::string out;
    while (!rest_.empty()) {
      char c = rest_.front();
      rest_.remove_prefix(1);
      if (c == '"') return out;
      if (c == '\\') {
        if (rest_.empty()) return std::nullopt;
        c = rest_.front();
        rest_.remove_prefix(1);
      }
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return std::nullopt;
      out += c;
    }
    return std::nullopt;
  }
  // The credentials form: token characters, "/" and "=" without a name.
  bool skip_token68() {
    std::size_t end = 0;
    while (end < rest_.size() && (is_token_char(rest_[end]) || rest_[end] == '/')) ++end;
    while (end < rest_.size() && rest_[end] == '=') ++end;
    const auto after = rest_.substr(end);
    const auto next = after.find_first_not_of(" \t");
    if (end == 0 || (next != std::string_view::npos && after[next] != ',')) return false;
    rest_.remove_prefix(end);
    return true;
  }
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

// "name=value" or "name="value""; nothing, with the scanner where it was, when none stands here.
std::optional<std::pair<std::string, std::string>> take_param(Scanner& at) {
  Scanner probe = at;
  auto name = lower(probe.token());
  probe.skip_blanks();
  if (name.empty() || !probe.take('=')) return std::nullopt;
  probe.skip_blanks();
  std::optional<std::string> value;
  if (probe.take('"')) {
    value = probe.quoted();
  } else if (auto plain = probe.token(); !plain.empty()) {
    value = std::move(plain);
  }
  if (!value) return std::nullopt;
  at = probe;
  return std::pair(std::move(name), *std::move(value));
}

// The parameters of one challenge; the comma before the next challenge stays.
Status take_params(Scanner& at, Challenge& out) {
  auto param = take_param(at);
  if (!param) at.skip_token68();
  while (param) {
    if (out.params.size() >= kMaxParams) return fail(Code::kLimit, "it has too many parts");
    if (!out.params.emplace(*std::move(param)).second)
      return fail(Code::kCorrupt, "it repeats itself");
    Scanner probe = at;
    probe.skip_blanks();
    if (!probe.take(',')) break;
    probe.skip_commas();
    param = take_param(probe);
    if (param) at = probe;
  }
  at.skip_blanks();
  if (at.at_end() || at.rest().starts_with(',')) return {};
  return fail(Code::kCorrupt, "it is not valid");
}

}  // namespace

std::string Challenge::param(const std::string& name) const {
  const auto found = params.find(name);
  return found == params.end() ? std::string() : found->second;
}

Result<std::vector<Challenge>> parse_challenges(std::string_view value) {
  const auto what = "the demand for authentication \"" + printable(value, 100) + "\"";
  if (value.size() > kMaxValue) return fail(Code::kLimit, what + ": it is too long");
  std::vector<Challenge> out;
  Scanner at(value);
  for (at.skip_commas(); !at.at_end(); at.skip_commas()) {
    Challenge challenge;
    challenge.scheme = lower(at.token());
    if (challenge.scheme.empty()) return fail(Code::kCorrupt, what + ": it is not valid");
    if (at.skip_blanks()) {
      if (auto taken = take_params(at, challenge); !taken) {
        return fail(std::move(taken).error().with(what));
      }
    } else if (!at.at_end() && !at.rest().starts_with(',')) {
      return fail(Code::kCorrupt, what + ": it is not valid");
    }
    if (out.size() >= kMaxChallenges) return fail(Code::kLimit, what + ": it has too many parts");
    out.push_back(std::move(challenge));
  }
  if (out.empty()) return fail(Code::kCorrupt, what + ": it is not valid");
  return out;
}

}  // namespace sm
