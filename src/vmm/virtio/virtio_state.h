// VirtioState: one virtio-mmio device as a snapshot stores it: the transport's registers, how far
// each queue has been worked off, and the device's own part. Plain data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sm {

// Where a device stands in its rings. Spec: virtio 1.2, 2.7.
struct QueuePosition {
  std::uint16_t next_available = 0;  // the next entry to take
  std::uint16_t next_used = 0;
  std::uint16_t signalled_used =
      0;  // next_used when the driver was last considered for an interrupt
  bool operator==(const QueuePosition&) const = default;
};

// All of it is guest-controlled: a restore checks it as if the guest had just written it.
struct VirtioQueueState {
  std::uint32_t size = 0;
  std::uint64_t descriptors = 0, available = 0, used = 0;
  bool ready = false;
  QueuePosition position;
  bool operator==(const VirtioQueueState&) const = default;
};

struct VirtioState {
  std::uint32_t device_type = 0;  // VirtioDeviceType
  std::uint32_t status = 0;
  std::uint32_t device_features_select = 0;
  std::uint32_t driver_features_select = 0;
  std::uint64_t driver_features = 0;
  std::uint32_t queue_select = 0;
  std::uint32_t interrupt_status = 0;
  std::uint32_t config_generation = 0;
  bool config_change_pending = false;
  bool active = false;  // between a successful activation and reset or failure
  std::vector<VirtioQueueState> queues;
  std::vector<std::byte> device;  // the device's own state, in a form of its own; often empty
  bool operator==(const VirtioState&) const = default;
};

}  // namespace sm
