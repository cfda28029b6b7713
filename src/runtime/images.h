// Images by whatever name: local forms, the store, registries. What `run` and the image commands
// share. Calls block.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/image_source.h"
#include "oci/layer_cache.h"
#include "oci/registry/pull.h"
#include "oci/registry/registry_client.h"
#include "oci/store/image_store.h"

namespace sm {

// Where images and what is known about registries lie.
struct ImageFolders {
  std::string store;                    // an OCI layout
  std::string layers;                   // squashfs files
  std::string registries_file;          // our configuration
  std::vector<std::string> auth_files;  // Docker's and containers', in the order they are asked

  // From the XDG variables, REGISTRY_AUTH_FILE and DOCKER_CONFIG; see docs/reference/images.md.
  static Result<ImageFolders> find();
};

enum class PullPolicy : std::uint8_t { kMissing, kAlways, kNever };
// "missing", "always" or "never".
Result<PullPolicy> parse_pull_policy(const std::string& text);

struct ImageRequest {
  std::string name;  // oci:DIR[:TAG], oci-archive:, docker-archive:, a name, NAME@DIGEST or an id
  PullPolicy pull = PullPolicy::kMissing;
  Platform platform;
  bool keep_lease = false;  // see LoadedImage
};

// The image behind a request, pulled when the policy says so. Hold a lease of the store for as long
// as its layers are read.
Result<ImageSource> resolve_image(const ImageRequest& request, const ImageFolders& folders,
                                  const ImageStore& store, const TransferObserver& observer,
                                  const std::stop_token& stop = {});

Result<RegistryOptions> registry_options(const ImageFolders& folders);

}  // namespace sm
