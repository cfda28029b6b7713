// An image's layers as disks, prepared while the user can still interrupt.
#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/image_config.h"
#include "runtime/session_signals.h"

namespace sm {

// Progress of layer conversion: bytes read of a layer's blob. Several threads, one call at a time.
using LayerObserver = std::function<void(std::size_t layer, std::size_t layers, std::uint64_t done,
                                         std::uint64_t total)>;

struct LoadedImage {
  ImageConfig config;
  std::string digest;               // names the content: "sha256:..."
  std::vector<std::string> layers;  // squashfs files, base first
  int interrupted_by = 0;           // a signal ended the preparation; the rest is empty
};

// Opens a local image and converts what the layer cache under `cache_dir` lacks. Blocks; a stop
// request ends it with kGone.
Result<LoadedImage> prepare_image(const std::string& reference, const std::string& cache_dir,
                                  const LayerObserver& progress, std::stop_token stop);

// The same while the user's signals can end it.
Result<LoadedImage> load_image(const std::string& reference, const std::string& cache_dir,
                               const SessionSignals& signals, const LayerObserver& progress);

}  // namespace sm
