// What is behind Image.
#pragma once

#include <supermachine/image.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/context_impl.h"
#include "oci/image_config.h"
#include "runtime/bake/saved_machine.h"

namespace supermachine {

struct ImageDefaults {
  std::uint64_t memory_mib = 256;
  std::uint32_t vcpus = 1;
  std::vector<std::string> env;  // "NAME=value", over the image's
  std::string user;              // empty: the image's
  std::string workdir;           // empty: the image's
  std::vector<std::string> command;
  PullPolicy pull = PullPolicy::kMissing;
};

struct Image::Impl {
  ContextPtr context;
  std::string reference;
  std::string digest;
  sm::ImageConfig config;
  std::vector<std::string> layers;   // squashfs files, base first
  std::vector<sm::UniqueFd> in_use;  // keep the layers from being pruned
  std::string auto_engine;           // what "auto" is on this host
  std::string kernel_digest, initramfs_digest;
  ImageDefaults defaults;
  std::optional<sm::SavedMachine> snapshot;  // its VMs go on from it
};

// A snapshot as an image. Blocks.
Result<std::shared_ptr<const Image::Impl>> load_snapshot(const ContextPtr& context,
                                                         const std::string& dir);
// What VMs of a snapshot of it need: the image's settings with those that its owner has given it.
sm::SavedImage saved_image(const Image::Impl& image, bool workload);

// "NAME=value", or kInvalidArgument.
sm::Result<std::string> make_variable(const std::string& name, const std::string& value);

}  // namespace supermachine
