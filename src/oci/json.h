// Bounded JSON: nlohmann-json behind limits on size and nesting, and typed field access that
// reports errors as values. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace sm {

using Json = nlohmann::json;

// Limit: real image documents nest less than ten deep; 32 leaves room for labels of labels.
constexpr std::size_t kMaxJsonDepth = 32;

// The document as an object. `what` names it in errors ("the manifest").
Result<Json> parse_json_object(std::string_view text, std::string_view what);

// The same for a document whose top is an array.
Result<Json> parse_json_array(std::string_view text, std::string_view what);

// The field, or nullptr when it is missing or null. `object` must be an object.
const Json* json_field(const Json& object, const char* key);

// Missing and null give the empty value; another type, or text with a NUL in it, is Code::kCorrupt.
Result<std::string> json_text(const Json& object, const char* key, std::string_view what);
Result<std::vector<std::string>> json_texts(const Json& object, const char* key,
                                            std::string_view what);
// A number that fits 0...INT64_MAX; missing gives `fallback`.
Result<std::uint64_t> json_unsigned(const Json& object, const char* key, std::string_view what,
                                    std::uint64_t fallback);

}  // namespace sm
