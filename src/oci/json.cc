// Bounded JSON parsing and typed access.
#include "oci/json.h"

#include <limits>

namespace sm {
namespace {

// The documents' sizes are limited where they are read.
Result<Json> parse(std::string_view text, std::string_view what) {
  return parse_json(text, what, JsonLimits{.bytes = text.size(), .depth = kMaxJsonDepth});
}

tl::unexpected<Error> wrong_type(const char* key, std::string_view what, std::string_view wanted) {
  return fail(Code::kCorrupt, "field \"" + std::string(key) + "\" of " + std::string(what) +
                                  " is not " + std::string(wanted));
}

// A text that can become a C string.
const std::string* clean_text(const Json& value) {
  const auto* text = value.get_ptr<const std::string*>();
  return text != nullptr && text->find('\0') == std::string::npos ? text : nullptr;
}

}  // namespace

Result<Json> parse_json_object(std::string_view text, std::string_view what) {
  auto json = SM_TRY(parse(text, what));
  if (!json.is_object()) return fail(Code::kCorrupt, std::string(what) + " is not a JSON object");
  return json;
}

Result<Json> parse_json_array(std::string_view text, std::string_view what) {
  auto json = SM_TRY(parse(text, what));
  if (!json.is_array()) return fail(Code::kCorrupt, std::string(what) + " is not a JSON array");
  return json;
}

const Json* json_field(const Json& object, const char* key) {
  const auto at = object.find(key);
  return at == object.end() || at->is_null() ? nullptr : &*at;
}

Result<std::string> json_text(const Json& object, const char* key, std::string_view what) {
  const Json* field = json_field(object, key);
  if (field == nullptr) return std::string();
  const auto* text = clean_text(*field);
  if (text == nullptr) return wrong_type(key, what, "a text without NUL");
  return *text;
}

Result<std::vector<std::string>> json_texts(const Json& object, const char* key,
                                            std::string_view what) {
  std::vector<std::string> out;
  const Json* field = json_field(object, key);
  if (field == nullptr) return out;
  if (!field->is_array()) return wrong_type(key, what, "a list of texts");
  out.reserve(field->size());
  for (const auto& item : *field) {
    const auto* text = clean_text(item);
    if (text == nullptr) return wrong_type(key, what, "a list of texts without NUL");
    out.push_back(*text);
  }
  return out;
}

Result<std::uint64_t> json_unsigned(const Json& object, const char* key, std::string_view what,
                                    std::uint64_t fallback) {
  const Json* field = json_field(object, key);
  if (field == nullptr) return fallback;
  if (!field->is_number_unsigned()) return wrong_type(key, what, "a whole number from 0 on");
  const auto value = field->get<std::uint64_t>();
  if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    return wrong_type(key, what, "a number that fits 63 bits");
  }
  return value;
}

}  // namespace sm
