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
};

// The image behind a request, pulled when the policy says so. Hold a lease of the store for as long
// as its layers are read.
Result<ImageSource> resolve_image(const ImageRequest& request, const ImageFolders& folders,
                                  const ImageStore& store, const TransferObserver& observer,
                                  const std::stop_token& stop = {});

Result<RegistryOptions> registry_options(const ImageFolders& folders);

struct LayerUsage {
  std::string key;
  std::uint64_t size = 0;
  bool needed = false;  // by an image of the store
};
// The converted layers.
Result<std::vector<LayerUsage>> layer_usage(const ImageFolders& folders);

struct PruneReport {
  std::vector<std::string> names;   // that were removed
  std::vector<std::string> blobs;   // digests
  std::vector<std::string> layers;  // squashfs files
  std::uint64_t bytes = 0;
};
// Removes blobs that no image needs, and converted layers of no image that no VM uses. With `all`,
// the images themselves first. Waits until no pull or push is under way.
Result<PruneReport> prune_images(const ImageFolders& folders, bool all,
                                 const std::stop_token& stop = {});

// Removes names; an id stands for all its names. Blobs that no image needs any more go too, unless
// somebody works with the store just now.
struct RemoveReport {
  std::vector<std::string> untagged;
  std::vector<std::string> deleted;  // digests of blobs
};
Result<RemoveReport> remove_image(const ImageStore& store, const std::string& name, bool force);

}  // namespace sm
