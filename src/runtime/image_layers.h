// An image's layers as disks, fetched and prepared while the user can still interrupt.
#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/image_config.h"
#include "runtime/images.h"
#include "runtime/session_signals.h"

namespace sm {

// Progress of layer conversion: bytes read of a layer's blob. Several threads, one call at a time.
using LayerObserver = std::function<void(std::size_t layer, std::size_t layers, std::uint64_t done,
                                         std::uint64_t total)>;

struct ImageObservers {
  TransferObserver transfer;  // of a pull
  LayerObserver layers;
};

struct LoadedImage {
  ImageConfig config;
  std::string digest;               // names the content: "sha256:..."
  std::vector<std::string> layers;  // squashfs files, base first
  std::vector<UniqueFd> in_use;     // keep `image prune` from removing them
  // When asked for: nothing of the store is removed while this is held. For who will need the image
  // again and has yet to say so; it keeps others waiting.
  UniqueFd lease;
  int interrupted_by = 0;  // a signal ended the preparation; the rest is empty
};

// Finds or pulls the image and converts what the layer cache lacks. Blocks; a stop request ends it
// with kGone.
Result<LoadedImage> prepare_image(const ImageRequest& request, const ImageFolders& folders,
                                  const ImageObservers& observers, const std::stop_token& stop);

// The same while the user's signals can end it.
Result<LoadedImage> load_image(const ImageRequest& request, const ImageFolders& folders,
                               const SessionSignals& signals, const ImageObservers& observers);

}  // namespace sm
