// Images of the store as tar files and back: OCI archives, and archives of Docker, which are the
// same with one more document. Any thread; calls block.
#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/store/image_store.h"

namespace sm {

enum class ArchiveKind : std::uint8_t { kDocker, kOci };

// Writes the images to a descriptor, each blob once and verified. Holds a lease of the store.
Status save_images(const ImageStore& store, const std::vector<StoredImage>& images,
                   ArchiveKind kind, int fd);

struct LoadedName {
  std::string name;  // empty: the archive gives none
  Digest id;
};

// Takes all images of an archive into the store, whichever of the kinds it is.
Result<std::vector<LoadedName>> load_images(const ImageStore& store, const std::string& path);

}  // namespace sm
