// Demands for authentication, token servers' answers.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "oci/registry/authorizer.h"
#include "oci/registry/challenge.h"
#include "oci/registry/http_client.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto all = sm::parse_challenges(text)) {
    SM_CHECK(!all->empty() && all->size() <= 16);
    for (const auto& challenge : *all) {
      SM_CHECK(!challenge.scheme.empty() && challenge.params.size() <= 32);
      static_cast<void>(sm::url_origin(challenge.param("realm")));
    }
  }
  if (const auto token = sm::parse_token(text)) {
    // It goes into a header.
    SM_CHECK(token->value.find_first_of("\r\n ") == std::string::npos);
  }
  const std::string location(text.substr(0, 4096));
  if (const auto url = sm::resolve_url("https://host.example/v2/x?y", location)) {
    SM_CHECK(!sm::url_origin(*url).empty());
  }
  return 0;
}
