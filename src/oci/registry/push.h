// push_image: an image of the store into a registry: the variant for one platform, its layers and
// configuration first, then its manifest, unchanged.
#pragma once

#include <map>
#include <stop_token>
#include <string>

#include "base/result.h"
#include "oci/image_name.h"
#include "oci/registry/pull.h"
#include "oci/registry/registry_client.h"
#include "oci/store/image_store.h"

namespace sm {

struct PushResult {
  Descriptor manifest;
  std::size_t sent = 0;  // blobs that the registry did not have
};

// The manifest becomes visible last, so an error leaves nothing that could be pulled. Holds a lease
// of the store.
Result<PushResult> push_image(const ImageStore& store, RegistryClient& client,
                              const ImageSource& image, const ImageName& name,
                              const TransferObserver& observer, const std::stop_token& stop = {});

}  // namespace sm
