// Errors of registries. Spec: OCI distribution, "Error Codes".
#include "oci/registry/registry_error.h"

#include "oci/json.h"
#include "oci/text.h"

namespace sm {
namespace {

constexpr const char* kWhat = "the registry's answer";

// "CODE: message" of the first error in the body; empty when there is none.
std::string own_words(const std::string& body) {
  const auto json = parse_json_object(body, kWhat);
  const Json* errors = json ? json_field(*json, "errors") : nullptr;
  if (errors == nullptr || !errors->is_array() || errors->empty() || !errors->front().is_object())
    return {};
  const auto message = json_text(errors->front(), "message", kWhat);
  const auto code = json_text(errors->front(), "code", kWhat);
  if (message && !message->empty()) return printable(*message);
  return code ? printable(*code, 60) : std::string();
}

}  // namespace

Error status_error(const HttpResponse& response, const std::string& registry) {
  const auto words = own_words(response.body);
  const auto tail = words.empty() ? "" : ": " + words;
  const auto status = std::to_string(response.status);
  switch (response.status) {
    case 401:
    case 403:
      return Error(Code::kPermission, registry + " denies access (" + status + ")" + tail,
                   "check the image's name; log in with `docker login` or `podman login`, whose "
                   "files are read");
    case 404:
      return Error(Code::kNotFound,
                   registry + " does not have it" + (words.empty() ? " (404)" : tail),
                   "check the image's name and tag");
    case 429:
      return Error(Code::kLimit, registry + " limits the number of requests (429)" + tail,
                   "try again later, or log in for a higher limit");
    default:
      return Error(Code::kIo, registry + " answers with status " + status + tail,
                   "try again later");
  }
}

}  // namespace sm
