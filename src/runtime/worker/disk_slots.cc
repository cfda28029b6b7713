#include "runtime/worker/disk_slots.h"

#include <algorithm>

#include "proto/names.h"
#include "runtime/worker/guest_config.h"

namespace sm {

namespace {

constexpr const char* kRemedy = "bring the disks that the machine was saved with";

tl::unexpected<Error> differs(const std::string& cause) {
  return fail(Code::kUnsupported, cause, kRemedy);
}

// Takes the files of the command line one by one.
class Files {
 public:
  explicit Files(const WorkerOptions& options) : options_(options) {}

  // Empty when there is none for a disk of that name.
  std::string take(const std::string& serial) {
    if (serial == kRootDiskSerial) return std::exchange(root_, true) ? "" : options_.root_disk;
    const auto& layers = options_.virtio_blk;
    if (layers_ == layers.size() || serial != layer_serial(layers_)) return "";
    return layers[layers_++];
  }
  Status all_taken() const {
    if (layers_ != options_.virtio_blk.size()) {
      return differs("the snapshot has " + std::to_string(layers_) + " disks for layers, not " +
                     std::to_string(options_.virtio_blk.size()));
    }
    if (!root_ && !options_.root_disk.empty()) {
      return differs("the snapshot has no disk for the root's changes");
    }
    return {};
  }

 private:
  const WorkerOptions& options_;
  std::size_t layers_ = 0;
  bool root_ = false;
};

// A disk that was empty may get a file while the machine has no image yet, and stay empty; but for
// a writable one, which init counts on.
Status check_slot(const SnapshotDevice& saved, const DiskSlot& slot, bool awaits_image) {
  const std::string name = "the snapshot's disk '" + saved.serial.substr(0, 20) + "'";
  const bool needed = saved.bytes != 0 || (awaits_image && !saved.read_only);
  if (slot.path.empty()) return needed ? differs(name + " has no file here") : Status();
  if (saved.read_only != (saved.serial != kRootDiskSerial)) {
    return differs(name + (saved.read_only ? " is read-only" : " is writable"));
  }
  if (saved.bytes == 0 && !awaits_image) return differs(name + " is empty in its image");
  return {};
}

}  // namespace

std::vector<DiskSlot> boot_slots(const WorkerOptions& options) {
  const bool late = options.layer_slots != 0;
  const auto& layers = options.virtio_blk;
  std::vector<DiskSlot> out;
  for (std::size_t i = 0; i < std::max<std::size_t>(layers.size(), options.layer_slots); ++i) {
    out.push_back({.serial = layer_serial(i),
                   .path = i < layers.size() ? layers[i] : "",
                   .late = late && i < layers.size()});
  }
  if (!options.root_disk.empty()) {
    out.push_back({.serial = std::string(kRootDiskSerial),
                   .read_only = false,
                   .path = options.root_disk,
                   .late = late});
  }
  return out;
}

Result<std::vector<DiskSlot>> restore_slots(const SnapshotManifest& manifest,
                                            const WorkerOptions& options) {
  Files files(options);
  std::vector<DiskSlot> out;
  for (const SnapshotDevice& saved : manifest.devices) {
    if (saved.type != "blk") continue;
    DiskSlot slot;
    slot.serial = saved.serial;
    slot.read_only = saved.read_only;
    slot.path = files.take(saved.serial);
    slot.saved_bytes = saved.bytes;
    SM_TRY_STATUS(check_slot(saved, slot, manifest.awaits_image));
    slot.late = manifest.awaits_image && saved.bytes == 0 && !slot.path.empty();
    out.push_back(std::move(slot));
  }
  SM_TRY_STATUS(files.all_taken());
  return out;
}

}  // namespace sm
