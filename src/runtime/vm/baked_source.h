// BakedSource: VMs of an image that boot once and go on from a snapshot of that boot ever after.
// The snapshots are those of `supermachine run`, in the same cache.
#pragma once

#include <string>

#include "runtime/bake/snapshot_cache.h"
#include "runtime/vm/cold_boot.h"
#include "runtime/vm/vm_source.h"

namespace sm {

// The name that a guest has in its snapshot; every VM gets its own when it goes on.
inline constexpr const char* kBakedHostname = "supermachine";

class BakedSource final : public VmSource {
 public:
  // `boot` has been checked; its engine is not "auto". Digests of kernel and initramfs.
  BakedSource(BootConfig boot, SnapshotCache cache, std::string kernel_digest,
              std::string initramfs_digest, std::string reference);
  std::uint64_t memory_bytes() const override { return boot_.memory_mib << 20; }
  // From the snapshot if there is one. The first VM without one boots and makes it on the way;
  // others that start meanwhile just boot.
  Result<VmLaunch> launch(const VmDir& dir, const std::string& id) override;
  // The snapshot is damaged, or of another machine: it goes.
  void on_restore_failed() override;

 private:
  WorkerCommand restore_command(const VmDir& dir) const;
  SnapshotTarget target() const;

  BootConfig boot_;
  SnapshotCache cache_;
  std::string kernel_digest_, initramfs_digest_;
  std::string reference_;  // of the image, for people
  std::string fingerprint_;
  bool baked_ = false;  // tried by this source
  bool stuck_ = false;  // a snapshot that is no good could not be removed
};

}  // namespace sm
