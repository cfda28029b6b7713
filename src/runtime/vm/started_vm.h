// StartedVm: a VM as its owner sees it, and VmStarter, which makes them. The implementation starts
// worker processes (vm_process.h); the tests of the pool have one that pretends.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "proto/control.h"
#include "vmm/snapshot/manifest.h"

namespace sm {

// What is to be saved of a VM that runs, and where.
struct SaveOrder {
  std::string path;  // absolute; of the new snapshot
  bool replace = false;
  bool stay_paused = false;          // else the guest goes on
  std::optional<SnapshotBase> base;  // a diff against it
  std::map<std::string, std::string> annotations;
};

// What can be done to a VM beside the talk with its agent. One thing at a time: others wait for
// their turn. Each callback is called once, also when the VM ends. Thread: the loop's.
class VmControl {
 public:
  virtual ~VmControl() = default;
  // kGone: the VM ended meanwhile; kInvalidArgument: the base is another one; kLimit: too many
  // orders wait. After an error nothing is left behind and the guest is as it was.
  virtual void save(SaveOrder order, std::function<void(Result<control::Done>)> done) = 0;
  virtual void set_paused(bool paused, std::function<void(Status)> done) = 0;
};

// What those who use a VM share with those who own it. Any thread.
class VmEndpoint {
 public:
  VmEndpoint(std::string id, std::string exec_socket)
      : id_(std::move(id)), exec_socket_(std::move(exec_socket)) {}

  const std::string& id() const { return id_; }
  // Unix socket that leads to the guest's agent.
  const std::string& exec_socket() const { return exec_socket_; }
  // Why the VM has ended; nothing while it lives.
  std::optional<Error> end() const;
  // Calls `done` once when the VM has ended: on the owner's thread, or at once if it has already.
  void when_ended(std::function<void()> done);
  // It was to be paused and has not been told to go on since: nobody else can use it.
  bool paused() const { return paused_; }
  void set_paused(bool paused) { paused_ = paused; }
  // Null while the VM is not ready, and when it has ended. Thread: the loop's.
  VmControl* control() const { return control_; }
  void set_control(VmControl* control) { control_ = control; }
  // The owner's: the VM has ended. The first call counts.
  void set_ended(Error why);

 private:
  const std::string id_;
  const std::string exec_socket_;
  mutable std::mutex mutex_;
  std::optional<Error> end_;
  std::vector<std::function<void()>> waiting_;
  VmControl* control_ = nullptr;
  std::atomic<bool> paused_{false};
};

// Thread: the loop's. Its destructor ends the VM at once.
class StartedVm {
 public:
  virtual ~StartedVm() = default;
  virtual const std::shared_ptr<VmEndpoint>& endpoint() const = 0;
  // Asks for the end; on_end follows, within a bounded time.
  virtual void stop() = 0;
};

struct VmEvents {
  std::function<void()> on_ready;     // programs can be started in it
  std::function<void(Error)> on_end;  // it is gone; the last call. The object is still there
};

// Thread: the loop's.
class VmStarter {
 public:
  virtual ~VmStarter() = default;
  virtual std::uint64_t memory_bytes() const = 0;
  // Begins to start one. The events come later, never from within this call.
  virtual Result<std::unique_ptr<StartedVm>> start(VmEvents events) = 0;
  // Hardly another one will be started: what is ready for it goes.
  virtual void close() {}
};

}  // namespace sm
