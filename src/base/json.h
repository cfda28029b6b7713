// JSON from outside, parsed with limits. nlohmann-json does the work; this puts the fence around
// it.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
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

}  // namespace sm
