// JSON from outside, parsed with limits, and JSON written. nlohmann-json does the work; this puts
// the fence around it, and is the one place where its parser and its printer are compiled.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sm {

struct JsonLimits {
  std::size_t bytes = 4u << 20;
  std::size_t depth = 32;  // nested arrays and objects
};

// The document, or kLimit / kCorrupt. `what` names the input in the error. Never throws.
Result<nlohmann::json> parse_json(std::string_view text, std::string_view what,
                                  const JsonLimits& limits = {});

// The document as text: on one line, or with `indent` blanks for each level. What is not UTF-8
// becomes U+FFFD. Never throws.
std::string dump_json(const nlohmann::json& document, int indent = -1);

}  // namespace sm
