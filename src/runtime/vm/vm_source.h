// VmSource: how a VM comes to life: by booting (ColdBoot), or from a saved machine (BakedSource).
// See docs/design/0017-kernel-boot-cache.md for the one between the two.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "proto/agent.h"
#include "runtime/snapshot_order.h"
#include "runtime/vm_dir.h"
#include "runtime/worker_process.h"

namespace sm {

struct VmLaunch {
  WorkerCommand worker;
  // What the guest must be told before the VM may be handed out.
  std::optional<agent::ResumeRequest> resume;
  // A snapshot that is made of the VM before it is told.
  std::optional<SnapshotTarget> bake;
  // The same, of its booted kernel before it has an image.
  std::optional<SnapshotTarget> kernel_bake;
  std::string kernel_digest, initramfs_digest;  // for snapshots of it
  std::optional<SnapshotDisk> disk;             // likewise: the one that its guest can write to
  bool restored = false;  // from a snapshot: the agent runs from the beginning
  std::string kept;  // the cache's name of the snapshot that it goes on from; empty: of none there
};

// Thread: the loop's.
class VmSource {
 public:
  virtual ~VmSource() = default;
  virtual std::uint64_t memory_bytes() const = 0;
  // How to start one VM with this folder and id.
  virtual Result<VmLaunch> launch(const VmDir& dir, const std::string& id) = 0;
  // A worker that waits to become the next VM (--pool-worker), but for its log; nothing: that one
  // boots, or needs open files.
  virtual std::optional<WorkerCommand> spare_worker() const { return std::nullopt; }
  // A VM that was to go on from the snapshot VmLaunch::kept did not come up.
  virtual void on_restore_failed(const std::string& kept) = 0;
};

}  // namespace sm
