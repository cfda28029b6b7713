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
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/event_loop.h"
#include "base/log.h"
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

// How a device interrupts its driver. Implemented by the transport. Any thread.
class VirtioInterrupt {
 public:
  virtual ~VirtioInterrupt() = default;
  virtual void used_buffers() = 0;
  virtual void config_changed() = 0;
  // The device met something it cannot go on with: DEVICE_NEEDS_RESET. Spec: virtio 1.2, 2.1.1.
  virtual void needs_reset() = 0;
};

// What a device gets when its driver has finished set-up.
struct VirtioActivation {
  std::uint64_t features;  // negotiated, a subset of what the device offered
  std::vector<Queue>
      queues;  // one per queue the device has; a queue the driver left off is !ready()
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

  // Device configuration space. The transport holds the device's lock. Out of range reads give
  // zero.
  virtual void read_config(std::uint32_t offset, std::span<std::byte> out) const = 0;
  virtual void write_config(std::uint32_t offset, std::span<const std::byte> in) = 0;

  // The three below are called with the device's lock held: a device needs no lock of its own.
  virtual Status activate(VirtioActivation activation) = 0;
  // The driver has put buffers into queue `index`, or the queue has just been activated.
  // Handles a bounded number of chains; returns true when more are waiting (it is then called again
  // after other work had its turn). An error makes the transport show DEVICE_NEEDS_RESET.
  virtual Result<bool> process_queue(std::uint32_t index) = 0;
  // Forgets queues and requests. After return the device touches no guest memory.
  virtual void reset() = 0;
};

}  // namespace sm
