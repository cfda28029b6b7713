// VmSource: how a VM comes to life: by booting (ColdBoot), or from a saved machine (BakedSource).
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
  std::string kernel_digest, initramfs_digest;  // for snapshots of it
  std::optional<SnapshotDisk> disk;             // likewise: the one that its guest can write to
  bool restored = false;  // from a snapshot: the agent runs from the beginning
};

// Thread: the loop's.
class VmSource {
 public:
  virtual ~VmSource() = default;
  virtual std::uint64_t memory_bytes() const = 0;
  // How to start one VM with this folder and id.
  virtual Result<VmLaunch> launch(const VmDir& dir, const std::string& id) = 0;
  // A VM that was to go on from a snapshot did not come up.
  virtual void on_restore_failed() = 0;
};

}  // namespace sm
