// bake_image: `supermachine bake`: a VM of an image, made ready and saved in a folder or under a
// tag. Blocks; the user's signals end it.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/bake/bake.h"
#include "runtime/image_layers.h"
#include "runtime/run_options.h"

namespace sm {

struct BakeOptions {
  RunOptions run;      // image, command, environment, memory ...
  std::string folder;  // or
  std::string tag;
  std::string ready = "pre-exec";
  std::string output;               // file in the guest for the workload's output
  std::vector<std::string> warmup;  // each for /bin/sh -c
  std::chrono::milliseconds quiesce{0};
  std::chrono::seconds limit{300};
  bool no_cache = false;  // bake even if a snapshot of the same inputs has a tag
};

struct BakeOutcome {
  std::string path;
  std::string linked;  // the tag whose snapshot this is, too; empty: it was made now
  std::uint64_t bytes = 0;
  int interrupted_by = 0;  // by this signal, and nothing was made
};

Result<BakeOutcome> bake_image(const BakeOptions& options, const std::vector<std::string>& file_env,
                               const HostEnv& host, const ImageObservers& observers);

}  // namespace sm
