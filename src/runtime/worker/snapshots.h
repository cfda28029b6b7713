// The worker's snapshots: writing one of its VM, and opening one to go on from. Thread: main.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"
#include "runtime/worker/options.h"
#include "vmm/snapshot/manifest.h"
#include "vmm/vm.h"

namespace sm {

// A snapshot that a VM can go on from, its bases included.
struct OpenedSnapshot {
  std::string path;  // absolute
  SnapshotManifest manifest;
  VmRestore restore;
};
// `memory_digest`: kCorrupt when it has another one, since what the caller knows of the machine is
// then of one that was here before; empty: any.
Result<OpenedSnapshot> open_snapshot(const std::string& path, const std::string& memory_digest);

// What was asked for on the command line agrees with the snapshot, and the engine shows the
// processor that its guest knows. kUnsupported, saying what differs.
Status check_snapshot(const SnapshotManifest& manifest, const WorkerOptions& options,
                      const EngineCpu& cpu);

struct SnapshotPlace {
  std::string path;
  bool changed_only = false;
  bool replace = false;
};

// `facts`: the manifest but for what only the VM knows. `captured` is called when the machine is
// saved and only the files remain to be completed.
Result<Capture> take_snapshot(Vm& vm, SnapshotManifest facts, const SnapshotPlace& order,
                              const std::function<void()>& captured);

// The same into open files: those of the target, and one for the CaptureRecord with which the
// parent completes the snapshot.
Result<Capture> save_machine(Vm& vm, SnapshotManifest facts, const CaptureTarget& target,
                             int record_file, const std::function<void()>& captured);

}  // namespace sm
