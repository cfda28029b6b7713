// Parsing of registries.json.
#include "oci/registry/registry_config.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/file.h"
#include "oci/image_name.h"
#include "oci/json.h"
#include "oci/registry/http_client.h"
#include "oci/text.h"

namespace sm {
namespace {

constexpr std::size_t kMaxConfigFile = 1U << 20U;
constexpr unsigned kMaxParallelDownloads = 16;
constexpr std::uint64_t kMinChunk = 1U << 20U;

template <std::size_t N>
Status refuse_unknown(const Json& object, const std::array<std::string_view, N>& known,
                      const std::string& where) {
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    std::string list;
    for (const auto name : known) list += (list.empty() ? "" : ", ") + std::string(name);
    return fail(Code::kInvalidArgument, where + ": unknown field \"" + printable(key) + "\"",
                "known are " + list);
  }
  return {};
}

Result<bool> flag(const Json& object, const char* key, const std::string& where) {
  const Json* field = json_field(object, key);
  if (field == nullptr) return false;
  if (field->is_boolean()) return field->get<bool>();
  return fail(Code::kInvalidArgument, where + ": \"" + key + "\" is neither true nor false");
}

Result<RegistrySettings> parse_settings(const Json& object, const std::string& where) {
  constexpr std::array<std::string_view, 4> kKnown = {"mirrors", "ca_file", "plain_http",
                                                      "skip_tls_verify"};
  if (!object.is_object()) return fail(Code::kInvalidArgument, where + " is not an object");
  SM_TRY_STATUS(refuse_unknown(object, kKnown, where));
  RegistrySettings out;
  out.ca_file = SM_TRY(json_text(object, "ca_file", where));
  out.plain_http = SM_TRY(flag(object, "plain_http", where));
  out.skip_tls_verify = SM_TRY(flag(object, "skip_tls_verify", where));
  for (auto& mirror : SM_TRY(json_texts(object, "mirrors", where))) {
    while (mirror.ends_with('/')) mirror.pop_back();
    if (url_origin(mirror).empty() || mirror.find_first_of("?#@") != std::string::npos) {
      return fail(Code::kInvalidArgument,
                  where + ": the mirror \"" + printable(mirror) + "\" is no URL of HTTP",
                  "write https://HOST[:PORT][/PATH]");
    }
    out.mirrors.push_back(std::move(mirror));
  }
  return out;
}

}  // namespace

const RegistrySettings& RegistryConfig::of(const std::string& registry) const {
  const auto found = registries.find(registry);
  return found == registries.end() ? none_ : found->second;
}

Result<RegistryConfig> parse_registry_config(std::string_view text, const std::string& where) {
  constexpr std::array<std::string_view, 3> kKnown = {"registries", "parallel_downloads",
                                                      "push_chunk_bytes"};
  const auto json = SM_TRY(parse_json_object(text, where));
  SM_TRY_STATUS(refuse_unknown(json, kKnown, where));
  RegistryConfig out;
  const auto parallel = SM_TRY(json_unsigned(json, "parallel_downloads", where, 4));
  if (parallel < 1 || parallel > kMaxParallelDownloads) {
    return fail(Code::kInvalidArgument, where + ": parallel_downloads must be 1 to 16");
  }
  out.parallel_downloads = static_cast<unsigned>(parallel);
  out.push_chunk_bytes = SM_TRY(json_unsigned(json, "push_chunk_bytes", where, 0));
  if (out.push_chunk_bytes != 0 && out.push_chunk_bytes < kMinChunk) {
    return fail(Code::kInvalidArgument, where + ": push_chunk_bytes must be 0 or at least 1048576");
  }
  const Json* registries = json_field(json, "registries");
  if (registries == nullptr) return out;
  if (!registries->is_object()) {
    return fail(Code::kInvalidArgument, where + ": \"registries\" is not an object");
  }
  for (const auto& [host, value] : registries->items()) {
    if (!is_registry_host(host)) {
      return fail(Code::kInvalidArgument,
                  where + ": \"" + printable(host) + "\" is not the name of a registry",
                  "write HOST[:PORT] as it stands in images' names");
    }
    out.registries[host] = SM_TRY(parse_settings(value, where + ", registry " + host));
  }
  return out;
}

Result<RegistryConfig> load_registry_config(const std::string& path) {
  auto text = read_file(path, kMaxConfigFile);
  if (!text && text.error().code() == Code::kNotFound) return RegistryConfig();
  if (!text) return fail(std::move(text).error());
  return parse_registry_config(*text, path);
}

}  // namespace sm
