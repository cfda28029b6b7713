// Auth files of Docker and Podman, answers of credential helpers, our own configuration.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "oci/image_name.h"
#include "oci/registry/credentials.h"
#include "oci/registry/http_client.h"
#include "oci/registry/registry_config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto check = [](const sm::Credential& credential) {
    for (const auto& part : {credential.user, credential.password, credential.identity_token}) {
      SM_CHECK(part.find_first_of("\r\n") == std::string::npos);
    }
  };
  if (const auto file = sm::parse_auth_file(text, "file")) {
    for (const auto& [host, credential] : file->auths) check(credential);
    // The helper's name becomes part of a program's.
    SM_CHECK(file->store.find('/') == std::string::npos);
    for (const auto& [host, helper] : file->helpers)
      SM_CHECK(helper.find('/') == std::string::npos);
  }
  if (const auto answer = sm::parse_helper_answer(text, "helper")) {
    if (*answer) check(**answer);
  }
  if (const auto config = sm::parse_registry_config(text, "file")) {
    for (const auto& [host, settings] : config->registries) {
      SM_CHECK(sm::is_registry_host(host));
      for (const auto& mirror : settings.mirrors) SM_CHECK(!sm::url_origin(mirror).empty());
    }
  }
  return 0;
}
