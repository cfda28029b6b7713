// BlkDevice: a virtio disk. Requests are carried out one after the other on the device's loop,
// which should be one that may block. Thread: the device's lock. Spec: virtio 1.2, 5.2.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "vmm/snapshot/manifest.h"
#include "vmm/virtio/blk/backend.h"
#include "vmm/virtio/blk/request.h"
#include "vmm/virtio/device.h"

namespace sm {

struct BlkDeviceConfig {
  std::string name;    // for logs, "blk0"
  std::string serial;  // what the guest sees in /sys/block/vdX/serial; at most 20 bytes
  Access access = Access::kReadOnly;
};

class BlkDevice final : public VirtioDevice {
 public:
  // A null backend makes an empty disk of capacity 0, to be bound later. A writable disk needs a
  // writable backend.
  static Result<std::unique_ptr<BlkDevice>> create(BlkDeviceConfig config,
                                                   std::unique_ptr<BlockBackend> backend);

  // Puts a disk into an empty device and tells the driver its new capacity. Any thread, after
  // attach().
  Status bind(std::unique_ptr<BlockBackend> backend);
  // What a snapshot's manifest says of it. Before the machine runs, or with the device's lock.
  SnapshotDevice describe() const;
  // The guest has changed the disk since this device was made. With the device's lock.
  bool changed() const { return changed_; }
  // All that is on it, into a file of its size that is all holes. With the device's lock.
  Status copy_to(int file) const;

  std::string_view name() const override { return config_.name; }
  VirtioDeviceType type() const override { return VirtioDeviceType::kBlock; }
  std::uint64_t features() const override;
  std::span<const std::uint16_t> queue_max_sizes() const override { return kQueueSizes; }
  void attach(VirtioInterrupt& interrupt, std::mutex& lock) override;
  void read_config(std::uint32_t offset, std::span<std::byte> out) const override;
  void write_config(std::uint32_t offset, std::span<const std::byte> in) override;
  Status activate(VirtioActivation activation) override;
  Result<bool> process_queue(std::uint32_t index) override;
  QueuePosition queue_position(std::uint32_t) const override { return active_->queue.position(); }
  void reset() override;

  // One turn ends after so many requests or bytes, whichever comes first: small requests share an
  // interrupt, large ones do not delay each other's.
  static constexpr int kMaxChainsPerTurn = 32;
  static constexpr std::uint64_t kMaxBytesPerTurn = 1 << 20;

 private:
  static constexpr std::uint16_t kQueueSizes[] = {blk::kQueueSize};

  struct Active {
    Queue queue;
    blk::RequestExecutor executor;
  };

  BlkDevice(BlkDeviceConfig config, std::unique_ptr<BlockBackend> backend);
  Status check_backend(const BlockBackend& backend) const;

  BlkDeviceConfig config_;
  std::unique_ptr<BlockBackend> backend_;
  blk::Disk disk_;
  VirtioInterrupt* interrupt_ = nullptr;
  std::mutex* lock_ = nullptr;
  std::optional<Active> active_;
  Chain chain_;
  bool changed_ = false;
};

}  // namespace sm
