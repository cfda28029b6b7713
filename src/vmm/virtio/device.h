// VirtioDevice: one virtio device behind a transport. It never knows the transport and never parses
// a ring: it gets checked chains from Queue.
//
//            activate()                     reset()
//   inactive -----------> active  ------------------------> inactive
//                           | a broken ring or request
//                           v
//                         failed (transport shows DEVICE_NEEDS_RESET) --reset()--> inactive
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/queue.h"

namespace sm {

// Spec: virtio 1.2, 5.
enum class VirtioDeviceType : std::uint32_t {
  kBlock = 2,
  kEntropy = 4,
  kBalloon = 5,
  kVsock = 19,
  kFs = 26,
};

// How a device interrupts its driver. Implemented by the transport.
class VirtioInterrupt {
 public:
  virtual ~VirtioInterrupt() = default;
  // Any thread. Devices call notify_used() below instead.
  virtual void used_buffers() = 0;
  // Configuration space has changed; the device's lock is held, so the driver cannot see a mixture
  // without noticing. Before DRIVER_OK the interrupt is kept back until then.
  virtual void config_changed() = 0;
  // The device met something it cannot go on with: DEVICE_NEEDS_RESET. The device's lock is held.
  // process_queue() is not called again before the next activation. Spec: virtio 1.2, 2.1.1.
  virtual void needs_reset() = 0;
};

// What a device gets when its driver has finished set-up.
struct VirtioActivation {
  std::uint64_t features = 0;  // negotiated, a subset of what the device offered
  // One per queue the device has; a queue the driver left off is !ready().
  std::vector<Queue> queues;
};

class VirtioDevice {
 public:
  virtual ~VirtioDevice() = default;

  // Constant over the device's life; any thread.
  virtual std::string_view name() const = 0;
  virtual VirtioDeviceType type() const = 0;
  // Device-specific feature bits plus kRingEventIdx/kRingIndirectDesc where supported; the
  // transport adds VIRTIO_F_VERSION_1.
  virtual std::uint64_t features() const = 0;
  virtual std::span<const std::uint16_t> queue_max_sizes() const = 0;

  // Called once by the transport, before any other function below. `lock` is the device's lock: the
  // transport holds it around every call below; the device takes it in its own callbacks (timers,
  // host descriptors, control requests) before it touches state, queues or guest memory. Both
  // arguments live until the transport has ended, and the transport is stopped before.
  virtual void attach(VirtioInterrupt& interrupt, std::mutex& lock) = 0;

  // Device configuration space. Out of range reads give zero.
  virtual void read_config(std::uint32_t offset, std::span<std::byte> out) const = 0;
  virtual void write_config(std::uint32_t offset, std::span<const std::byte> in) = 0;

  // An error makes the transport show DEVICE_NEEDS_RESET. Thread: a vCPU's.
  virtual Status activate(VirtioActivation activation) = 0;
  // The driver has put buffers into queue `index`, or the queue has just been activated. Only for
  // queues that are ready, between activate() and reset(). Handles a bounded number of chains;
  // returns true when more are waiting (it is then called again after other work had its turn).
  // An error makes the transport show DEVICE_NEEDS_RESET. Thread: the device's loop.
  virtual Result<bool> process_queue(std::uint32_t index) = 0;
  // How far queue `index` has been worked off. Only between activate() and reset(). Devices hold no
  // chain while their lock is free, so this and guest memory are all there is to know.
  virtual QueuePosition queue_position(std::uint32_t index) const = 0;
  // In the place of activate() when the machine goes on from a snapshot: the queues stand where
  // they stood, the host's side is new. Before the loop and the vCPUs run.
  virtual Status restore(VirtioActivation activation) { return activate(std::move(activation)); }
  // Forgets queues and requests; also called when nothing was activated. After return the device
  // touches no guest memory. Thread: a vCPU's, or the one that stops the VM.
  virtual void reset() = 0;
};

// What read_config() of a device with a fixed layout does: copies from `config`, zero beyond it.
void copy_config(std::span<const std::byte> config, std::uint32_t offset, std::span<std::byte> out);

// Interrupts the driver if it wants to hear about what was pushed since the last call. Once per
// batch of chains.
inline Status notify_used(Queue& queue, VirtioInterrupt& interrupt) {
  if (SM_TRY(queue.should_interrupt())) interrupt.used_buffers();
  return {};
}

}  // namespace sm
