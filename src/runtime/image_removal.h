// What of images, their blobs and their converted layers is in use, and the removal of the rest.
// Calls block; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/store/image_store.h"
#include "runtime/images.h"

namespace sm {

// What is needed by those who hold no lock on it.
struct ImageUse {
  std::map<std::string, std::string> images;  // id ("sha256:...") -> the name of a VM made of it
  std::set<std::string> layers;               // file names of converted layers
};
// Asked when nobody else can begin to need something.
using FindImageUse = std::function<Result<ImageUse>()>;

struct LayerUsage {
  std::string key;
  std::uint64_t size = 0;
  bool needed = false;  // by an image of the store
};
// The converted layers.
Result<std::vector<LayerUsage>> layer_usage(const ImageFolders& folders);

struct PruneReport {
  std::vector<std::string> names;   // that were removed; digests of manifests that had none
  std::vector<std::string> blobs;   // digests
  std::vector<std::string> layers;  // squashfs files
  std::uint64_t bytes = 0;
};
// Removes the images that have no name (with `all`, all of them), unless they are used; then blobs
// that no image needs, and converted layers of no image that nobody uses. Waits until no pull or
// push is under way.
Result<PruneReport> prune_images(const ImageFolders& folders, bool all,
                                 const FindImageUse& find_use, const std::stop_token& stop = {});

struct RemoveReport {
  std::vector<std::string> untagged;
  std::vector<std::string> deleted;  // digests of blobs
};
// Removes names; an id stands for all its names. The last name of an image that is used goes with
// `force` only (kInvalidArgument else), and leaves the image without a name. So it does while
// somebody works with the store; else blobs that no image needs any more go too.
Result<RemoveReport> remove_image(const ImageStore& store, const std::string& name, bool force,
                                  const FindImageUse& find_use);

}  // namespace sm
