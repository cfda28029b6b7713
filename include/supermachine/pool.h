// Pool: VMs of one image that are ready before anybody asks for them.
#pragma once

#include <supermachine/error.h>
#include <supermachine/vm.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

namespace supermachine {

class Pool;

// A VM of a pool. Its destruction gives the VM back; the pool throws it away and makes a fresh one
// in the background, unless restore_on_release is off: then end programs and port forwards before.
// Once given back, its functions fail with kVmGone. Threads: as Vm.
class SUPERMACHINE_API PooledVm {
 public:
  ~PooledVm();
  PooledVm(PooledVm&&) noexcept;
  PooledVm& operator=(PooledVm&&) noexcept;

  Vm& operator*() { return vm_; }
  Vm* operator->() { return &vm_; }
  // The same as destruction.
  void release();

 private:
  friend class Pool;
  explicit PooledVm(Vm vm);
  Vm vm_;
};

struct PoolStats {
  std::size_t alive = 0;  // starting, idle and leased; never more than max
  std::size_t starting = 0;
  std::size_t idle = 0;
  std::size_t leased = 0;
  std::size_t stopping = 0;  // counts against max, too
  std::size_t waiting = 0;   // callers
  std::size_t min = 0;
  std::size_t max = 0;
  std::uint64_t acquired = 0;       // VMs handed out so far
  std::uint64_t acquired_warm = 0;  // of these, without waiting
  std::uint64_t timed_out = 0;
  std::uint64_t died = 0;    // VMs that ended by themselves
  std::uint64_t failed = 0;  // starts that failed
};

// Settings, then build(). One thread at a time.
class SUPERMACHINE_API PoolBuilder {
 public:
  explicit PoolBuilder(const Image& image);
  ~PoolBuilder();
  PoolBuilder(PoolBuilder&&) noexcept;
  PoolBuilder& operator=(PoolBuilder&&) noexcept;

  PoolBuilder& min(std::size_t n);  // kept idle, started at once; default 0
  PoolBuilder& max(std::size_t n);  // at a time; default: min, at least 1
  // Idle VMs beyond min end after it; nothing: never. Default 60 s.
  PoolBuilder& idle_timeout(std::optional<std::chrono::milliseconds> limit);
  PoolBuilder& acquire_timeout(std::chrono::milliseconds limit);  // default 30 s
  // True (default): nobody sees what an earlier user of a VM left. False: VMs are handed out again
  // as they are, caches warm; only for users who trust each other.
  PoolBuilder& restore_on_release(bool on);
  PoolBuilder& config(const VmConfig& config);

  // kInvalidArgument, kClosed. Does not wait for the first VMs.
  Result<Pool> build();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Beside its VMs it keeps one process that waits to become the next one, where VMs go on from a
// snapshot. All functions but moves and destruction: any thread at a time.
class SUPERMACHINE_API Pool {
 public:
  // Ends the VMs that are not handed out, without waiting; those that are stay usable until they
  // are given back. Callers that wait get kClosed.
  ~Pool();
  Pool(Pool&&) noexcept;
  Pool& operator=(Pool&&) noexcept;

  // An idle VM at once, else the first that becomes free or is started. Callers are served in the
  // order in which they came. kAcquireTimeout, kClosed; after three failed starts in a row their
  // reason.
  Result<PooledVm> acquire();
  void acquire_async(std::function<void(Result<PooledVm>)> done);
  PoolStats stats() const;

  struct Impl;

 private:
  friend class PoolBuilder;
  explicit Pool(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace supermachine
