// ImageName: what people call an image of a registry, [HOST[:PORT]/]PATH[:TAG][@DIGEST], in full.
// Pure. Any thread. Spec: OCI distribution, "Pulling manifests"; Docker's short form.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "oci/digest.h"

namespace sm {

// What a name without a host means: the host in names, the host that answers for it, and the key
// under which credential files know it.
constexpr std::string_view kDefaultRegistry = "docker.io";
constexpr std::string_view kDefaultRegistryApi = "registry-1.docker.io";
constexpr std::string_view kDefaultRegistryAuthKey = "https://index.docker.io/v1/";

struct ImageName {
  std::string registry;    // "docker.io", "localhost:5000"
  std::string repository;  // "library/nginx"
  std::string tag;         // "latest"; empty when there is a digest
  std::optional<Digest> digest;

  // The full form: "docker.io/library/nginx:1.27" or "...@sha256:...". Equal names, equal texts.
  std::string text() const;
  // "docker.io/library/nginx".
  std::string repository_text() const;
  // What a registry is asked for: the digest, else the tag.
  std::string reference() const;
};

// Fills in the default registry, "library/" and "latest". A tag beside a digest is checked and
// dropped: the digest says it all. Code::kInvalidArgument with the reason otherwise.
Result<ImageName> parse_image_name(std::string_view text);

// For people: without the default registry and "library/".
std::string familiar_repository(std::string_view repository_text);

// Whether the text is a host, a port after it or not, as it may stand in a name.
bool is_registry_host(std::string_view text);

}  // namespace sm
