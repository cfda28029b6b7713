// bake_image: `supermachine bake`: a VM of an image, made ready and saved in a folder or under a
// tag. Blocks; the user's signals end it.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/bake/prepare_bake.h"
#include "runtime/image_layers.h"
#include "runtime/run_options.h"

namespace sm {

struct BakeOutcome {
  std::string path;
  std::string linked;  // the tag whose snapshot this is, too; empty: it was made now
  std::uint64_t bytes = 0;
  int interrupted_by = 0;  // by this signal, and nothing was made
};

Result<BakeOutcome> bake_image(const BakeOptions& options, const std::vector<std::string>& file_env,
                               const HostEnv& host, const ImageObservers& observers);

}  // namespace sm
