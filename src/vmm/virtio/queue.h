// Queue: a split virtqueue as the device sees it, with every guest-controlled value checked.
// One thread at a time (the device's lock). Spec: virtio 1.2, 2.7.
//
//   Chain chain;                          // reused: no allocation once its vectors have grown
//   while (SM_TRY(queue.pop(chain))) {    // an error = the ring is broken
//     ... chain.readable / chain.writable ...
//     SM_TRY_STATUS(queue.push(chain, bytes_written));
//   }
//   SM_TRY_STATUS(notify_used(queue, interrupt));   // device.h
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/buffers.h"
#include "vmm/virtio/virtio_state.h"

namespace sm {

inline constexpr std::uint64_t kRingIndirectDesc = 1ull << 28;
inline constexpr std::uint64_t kRingEventIdx = 1ull << 29;
inline constexpr std::uint64_t kVirtioVersion1 = 1ull << 32;

// The largest queue any device may offer. Spec: 32768; Limit: it bounds the work of one pop().
inline constexpr std::uint16_t kMaxQueueSize = 1024;

// One request of the driver. Give it back with Queue::push exactly once, unless the device is
// reset before.
struct Chain {
  std::uint16_t head = 0;
  std::vector<GuestBuffer> readable;
  std::vector<GuestBuffer> writable;
};

struct QueueConfig {
  std::uint16_t size = 0;  // a power of two, at most the device's maximum
  GuestPhysAddr descriptors, available, used;
  bool ready = false;
  bool event_idx = false;
  bool indirect = false;
  QueuePosition position{};  // of a queue that goes on from a snapshot
};

class Queue {
 public:
  // A queue the driver left off: pop() finds nothing.
  explicit Queue(GuestMemory& memory) : memory_(&memory) {}
  // Checks size, alignment and that all three rings are RAM. A config that is not `ready` gives a
  // queue the driver left off.
  static Result<Queue> create(GuestMemory& memory, const QueueConfig& config,
                              std::uint16_t max_size);

  bool ready() const { return config_.ready; }
  std::uint16_t size() const { return config_.size; }
  GuestMemory& memory() const { return *memory_; }
  QueuePosition position() const { return {next_available_, next_used_, signalled_used_}; }

  // Fills `chain` with the next available chain and says true, or says false when there is none.
  // With event_idx, asks for a notification about later ones before it says false (and looks again,
  // so none is missed).
  // An error: an index out of range, a loop, more descriptors than the device's largest queue size,
  // more than 4 GiB in all, a buffer outside RAM, readable after writable, a bad indirect table, or
  // an impossible ring index. The queue stays broken: later calls fail as well.
  // Descriptors of length zero count as descriptors and otherwise do not exist.
  Result<bool> pop(Chain& chain);
  // The same for code that has no chain to reuse.
  Result<std::optional<Chain>> pop();
  // Un-pops the last popped chain (a device that has no room yet). Once per pop(), before push().
  void undo_pop();
  // The driver's index of the next entry it will add; it will notify about that one.
  Result<std::uint16_t> watch_available();
  // Returns a chain with the number of bytes written into its writable part, counted from its
  // first byte without gaps.
  Status push(const Chain& chain, std::uint32_t written);
  // True when the driver wants an interrupt for what was pushed since the last call.
  Result<bool> should_interrupt();

 private:
  Status refresh_available();
  Result<bool> find_available();
  Status walk(std::uint16_t head, Chain& chain) const;

  GuestMemory* memory_;
  QueueConfig config_;
  std::uint16_t max_chain_ = 0;
  std::uint16_t next_available_ = 0;  // the next entry to take
  std::uint16_t available_seen_ = 0;  // the driver's index when it was last looked at
  std::uint16_t next_used_ = 0;
  std::uint16_t signalled_used_ = 0;  // next_used_ at the last should_interrupt()
  bool can_undo_ = false;
  bool broken_ = false;
};

}  // namespace sm
