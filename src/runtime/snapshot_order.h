// SnapshotOrder: one snapshot of a running VM, taken by its worker and completed here: the worker
// may open no files and is not trusted. Thread: the loop's, but for a thread of its own that waits
// for the disk.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "proto/control.h"
#include "runtime/worker_process.h"
#include "vmm/snapshot/snapshot_dir.h"

namespace sm {

struct SnapshotTarget {
  std::string path;                // absolute; of the new snapshot
  std::uint64_t memory_bytes = 0;  // of the VM
  // A diff against the snapshot that the VM was restored from, which must be this one. Else whole.
  std::optional<SnapshotBase> base;
  bool replace = false;  // an existing snapshot
  // What is on that disk goes into the snapshot. Not given: a VM whose guest has written to a disk
  // is refused.
  std::optional<SnapshotDisk> disk;
  // For the manifest.
  std::string kernel_digest, initramfs_digest;
  std::map<std::string, std::string> annotations;  // all of them
};

class SnapshotOrder {
 public:
  // Once, unless the order is destroyed before.
  using OnDone = std::function<void(Result<control::Done>)>;

  // Asks the worker. `loop` outlives the order. The caller hands on the answers with this order's
  // id.
  static Result<std::unique_ptr<SnapshotOrder>> start(EventLoop& loop, WorkerProcess& worker,
                                                      SnapshotTarget target, OnDone on_done);
  // Waits for the disk when the machine has been saved already; else nothing is left behind.
  ~SnapshotOrder();
  SnapshotOrder(const SnapshotOrder&) = delete;
  SnapshotOrder& operator=(const SnapshotOrder&) = delete;
  SnapshotOrder(SnapshotOrder&&) = delete;
  SnapshotOrder& operator=(SnapshotOrder&&) = delete;

  std::uint64_t id() const { return id_; }
  void on_done(const control::Done& done);
  void on_refused(const control::Refused& refused);
  // Waits for the disk; then what came of it, or nothing when the machine has not been saved. The
  // callback is not called any more.
  std::optional<Result<control::Done>> finish();

 private:
  SnapshotOrder(EventLoop& loop, SnapshotTarget target, OnDone on_done)
      : loop_(loop), target_(std::move(target)), on_done_(std::move(on_done)) {}
  Status complete();

  EventLoop& loop_;
  const SnapshotTarget target_;
  const OnDone on_done_;
  std::uint64_t id_ = 0;
  std::unique_ptr<SnapshotWriter> writer_;
  UniqueFd record_;
  bool answered_ = false;
  std::optional<Result<control::Done>> result_;  // the thread's, until it is joined
  // Posted tasks hold it weakly.
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
  NamedThread thread_;
};

}  // namespace sm
