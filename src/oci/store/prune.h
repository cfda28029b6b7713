// Garbage collection: what in the store belongs to no image. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/digest.h"
#include "oci/store/image_store.h"

namespace sm {

struct StoredBlob {
  Digest digest;
  std::uint64_t size = 0;
  bool used = false;  // an image of the index needs it
};

// All blobs of the store.
Result<std::vector<StoredBlob>> list_blobs(const ImageStore& store);

// Removes the unused ones and abandoned downloads; what went. `exclusive` is the store's.
Result<std::vector<StoredBlob>> prune_blobs(const ImageStore& store, const UniqueFd& exclusive);

}  // namespace sm
