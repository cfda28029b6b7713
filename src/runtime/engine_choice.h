// Which engine "auto" is on this host. The worker finds out by running a small guest, which takes
// up to half a second where KVM only emulates; the answer is kept until the host or the worker
// changes.
#pragma once

#include <string>

#include "base/result.h"
#include "runtime/paths.h"

namespace sm {

// "kvm" or "soft" for "auto", any other name as it is.
Result<std::string> resolve_engine(const std::string& wanted, const Assets& assets,
                                   const std::string& cache_dir);

}  // namespace sm
