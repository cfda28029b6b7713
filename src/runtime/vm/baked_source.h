// BakedSource: VMs of an image that boot once and go on from a snapshot of that boot ever after.
// The snapshots are those of `supermachine run`, in the same cache. The boot itself goes on from
// one of a booted kernel, which all images share: docs/design/0017-kernel-boot-cache.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime/bake/snapshot_cache.h"
#include "runtime/vm/cold_boot.h"
#include "runtime/vm/vm_source.h"

namespace sm {

// The name that a guest has in its snapshot; every VM gets its own when it goes on.
inline constexpr const char* kBakedHostname = "supermachine";

// How many disks for layers a machine has that is made before its image of `layers` layers: few
// sizes, so that images share machines. 0: such an image has machines of its own.
std::uint32_t layer_slots(std::size_t layers);

class BakedSource final : public VmSource {
 public:
  // `boot` has been checked; its engine is not "auto". Digests of kernel and initramfs.
  BakedSource(BootConfig boot, SnapshotCache cache, std::string kernel_digest,
              std::string initramfs_digest, std::string reference);
  std::uint64_t memory_bytes() const override { return boot_.memory_mib << 20; }
  // From the snapshot if there is one. The first VM without one makes it on the way, from that of a
  // booted kernel or from a boot, which makes the latter as well; others that start meanwhile just
  // boot.
  Result<VmLaunch> launch(const VmDir& dir, const std::string& id) override;
  std::optional<WorkerCommand> spare_worker() const override;
  // The snapshot is damaged, or of another machine: it goes.
  void on_restore_failed(const std::string& kept) override;

 private:
  WorkerCommand restore_command(const VmDir& dir, const std::string& from) const;
  void make_image(const VmDir& dir, VmLaunch& out) const;
  bool knows_kernel() const { return !kernel_.empty() && !kernel_stuck_; }
  SnapshotTarget target(const std::string& name, const std::string& what) const;

  BootConfig boot_;
  SnapshotCache cache_;
  std::string kernel_digest_, initramfs_digest_;
  std::string reference_;      // of the image, for people
  std::string fingerprint_;    // of the image's snapshot
  std::string kernel_;         // of the booted kernel's; empty: it would not fit the image
  bool baked_ = false;         // tried by this source
  bool stuck_ = false;         // a snapshot that is no good could not be removed
  bool kernel_stuck_ = false;  // the same
};

}  // namespace sm
