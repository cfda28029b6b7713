// pull_image: an image of a registry into the store. Several processes and threads may pull the
// same image at once; each blob comes once.
#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>

#include "base/result.h"
#include "oci/image_name.h"
#include "oci/manifest.h"
#include "oci/registry/registry_client.h"
#include "oci/store/image_store.h"

namespace sm {

// What happens to one blob. Calls come from several threads, one at a time.
struct TransferProgress {
  std::size_t blob = 0;  // index, below `blobs`
  std::size_t blobs = 0;
  std::string id;  // twelve digits
  std::uint64_t done = 0;
  std::uint64_t total = 0;
  enum class State : std::uint8_t { kWaiting, kRunning, kDone, kExists, kMounted } state{};
};
using TransferObserver = std::function<void(const TransferProgress&)>;

struct PullOptions {
  Platform platform;
  TransferObserver observer;
};

struct PullResult {
  Descriptor target;        // what the name stands for now
  bool changed = true;      // the store did not have it under this name
  std::size_t fetched = 0;  // layers that were not in the store
};

// The name is set when all of the image is here; before, and after an error, it means what it
// meant.
Result<PullResult> pull_image(const ImageStore& store, RegistryClient& client,
                              const ImageName& name, const PullOptions& options,
                              const std::stop_token& stop = {});

// "os/architecture[/variant]" as a user writes it.
Result<Platform> parse_platform_text(const std::string& text);

}  // namespace sm
