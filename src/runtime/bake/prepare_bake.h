// prepare_bake: from an image and what the user wants of it to the plan of a bake, where its VM
// comes from, and the name of everything that decides about the result. Pure but for the caches.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/bake/bake.h"
#include "runtime/bake/saved_machine.h"
#include "runtime/image_layers.h"
#include "runtime/paths.h"
#include "runtime/run_options.h"
#include "runtime/vm/cold_boot.h"
#include "runtime/vm/vm_source.h"

namespace sm {

struct BakeOptions {
  RunOptions run;      // image, command, environment, memory, engine (not "auto") ...
  std::string folder;  // or
  std::string tag;
  std::string ready = "pre-exec";
  BakeRequest on_request;           // with "request:NAME"
  std::string output;               // file in the guest for the workload's output
  std::vector<std::string> warmup;  // each for /bin/sh -c
  std::chrono::milliseconds quiesce{0};
  std::chrono::milliseconds limit = std::chrono::seconds(300);
  bool no_cache = false;  // bake even if a snapshot of the same inputs has a tag
};

// What a bake stands on, beside the image.
struct BakeGround {
  Assets assets;
  std::string cache;
  std::string kernel_digest, initramfs_digest;
};

struct PreparedBake {
  BakePlan plan;       // its place is still to be named
  std::string inputs;  // 64 digits: the same exactly when everything is that decides
  std::shared_ptr<VmSource> source;
};

// What can be said before there is an image.
Status check_bake(const BakeOptions& options);
// kInvalidArgument, kLimit: what could not be saved or restored is refused here.
Result<PreparedBake> prepare_bake(const BakeOptions& options, const BakeGround& ground,
                                  const LoadedImage& image,
                                  const std::vector<std::string>& file_env, const HostEnv& host);

// The name of all that decides. `image` with the settings as they are in its VMs.
std::string bake_inputs(const BakeOptions& options, const BootConfig& boot, const SavedImage& image,
                        const BakeGround& ground);
// The name of a snapshot that is made of another one, named so, by these commands.
std::string warmup_inputs(const std::string& parent,
                          const std::vector<agent::ExecRequest>& commands);

}  // namespace sm
