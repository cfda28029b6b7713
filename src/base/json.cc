#include "base/json.h"

#include <string>

namespace sm {

namespace {

// Depth of the text, counted before the parser recurses into it. Brackets inside strings do not
// count.
std::size_t nesting_depth(std::string_view text) {
  std::size_t depth = 0, deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return deepest;
}

}  // namespace

Result<nlohmann::json> parse_json(std::string_view text, std::string_view what,
                                  const JsonLimits& limits) {
  const std::string name(what);
  if (text.size() > limits.bytes) {
    return fail(Code::kLimit, name + ": JSON of " + std::to_string(text.size()) +
                                  " bytes, the limit is " + std::to_string(limits.bytes));
  }
  if (nesting_depth(text) > limits.depth) {
    return fail(Code::kLimit,
                name + ": JSON is nested deeper than " + std::to_string(limits.depth));
  }
  auto document = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return fail(Code::kCorrupt, name + ": not valid JSON");
  return document;
}

std::string dump_json(const nlohmann::json& document, int indent) {
  return document.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace sm
