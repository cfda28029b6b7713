// SpareVm: the folder and the worker process of a VM that nobody has asked for yet. The process
// waits (--pool-worker) and becomes the next VM that goes on from a snapshot. Thread: the loop's.
#pragma once

#include <memory>
#include <string>

#include "base/event_loop.h"
#include "runtime/vm/vm_source.h"
#include "runtime/vm_dir.h"
#include "runtime/worker_process.h"

namespace sm {

class SpareVm {
 public:
  // Null: the source's next VM boots.
  static Result<std::unique_ptr<SpareVm>> create(EventLoop& loop, const VmSource& source,
                                                 const std::string& runtime_dir);

  // Whether its process waits.
  bool waits() const { return worker_ != nullptr && !ended_; }
  // Whether its folder is there as well: what is not used for long may be cleared away.
  bool usable() const { return waits() && dir_.intact(); }
  const std::string& id() const { return id_; }
  VmDir take_dir() { return std::move(dir_); }
  // The process, which has been told what to become. Null: a message cannot say that, and it waits
  // on, or it has ended.
  std::unique_ptr<WorkerProcess> become(const VmLaunch& launch, WorkerProcess::Callbacks callbacks);

 private:
  SpareVm(std::string id, VmDir dir) : id_(std::move(id)), dir_(std::move(dir)) {}

  std::string id_;
  VmDir dir_;
  bool ended_ = false;
  std::unique_ptr<WorkerProcess> worker_;  // gone before its folder is
};

}  // namespace sm
