// SavedMachine: a snapshot that a user made of a VM of an image, with what of the image its VMs
// need further on: layers, environment, user, folder, command. That travels in the snapshot's
// annotations. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/image_config.h"
#include "vmm/snapshot/manifest.h"

namespace sm {

struct SavedImage {
  std::string reference;            // for people
  std::string digest;               // "sha256:..."
  ImageConfig config;               // user, env, entrypoint, cmd, working_dir, stop_signal
  std::vector<std::string> layers;  // file names in the layer cache, base first
  bool workload = false;            // the image's command runs in it
  bool input = false;               // its standard input is open
  bool terminal = false;            // it has a terminal
};

// Annotations "image", for people, and "image-config". kLimit: environment and command together
// have more than 64 KiB; kInvalidArgument: what parse_saved_image would refuse or not give back as
// it was, such as a text that is not UTF-8.
Result<std::map<std::string, std::string>> saved_annotations(const SavedImage& image);
// The text of "image-config", from a hostile disk. kCorrupt, kLimit.
Result<SavedImage> parse_saved_image(std::string_view text);

struct SavedMachine {
  struct Facts {
    std::string path;           // absolute, without links
    std::string memory_digest;  // names what is in it
    std::string kernel_digest, initramfs_digest, engine;
    std::uint64_t memory_bytes = 0;
    std::uint32_t vcpus = 0;
    std::uint32_t generation = 0;  // how often it had been restored
    // What is on the disk that the guest can write to: each VM needs a copy of the file.
    std::optional<SnapshotDisk> disk;
    std::shared_ptr<const UniqueFd> disk_file;
  };
  Facts facts;
  SavedImage image;
  std::vector<std::string> layers;  // paths
  std::vector<UniqueFd> in_use;     // keep `image prune` from removing them
};

// What the manifest says of the image. kInvalidArgument: nothing; kCorrupt, kLimit.
Result<SavedImage> saved_image_of(const SnapshotManifest& manifest);

// Opens and checks a snapshot. kNotFound: no snapshot, or a layer of its image is not in the cache;
// kInvalidArgument: it is not of a VM of an image; kCorrupt, kUnsupported, kIo.
Result<SavedMachine> open_saved_machine(const std::string& path, const std::string& layers_dir);

// What a diff against that snapshot says of it.
Result<SnapshotBase> base_of_diff(const std::string& path);

// "/" + the way to it from here, links resolved as far as it exists.
Result<std::string> absolute_path(const std::string& path);

}  // namespace sm
