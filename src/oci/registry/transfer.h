// transfer_all: several blobs at once, each reported as it goes. Internal to oci/registry.
#pragma once

#include <functional>
#include <stop_token>
#include <vector>

#include "base/result.h"
#include "oci/manifest.h"
#include "oci/registry/pull.h"

namespace sm {

using TransferWork = std::function<Result<TransferProgress::State>(
    const Descriptor& blob, const ByteCounter& progress, const std::stop_token& stop)>;

// Runs `work` once for each digest, on up to `threads` threads. The first error stops the others
// and comes back.
Status transfer_all(std::vector<Descriptor> blobs, unsigned threads, const TransferWork& work,
                    const TransferObserver& observer, const std::stop_token& stop);

}  // namespace sm
