// RngDevice: virtio entropy. Every request is answered at once from the host's random generator.
// Thread: the device's lock. Spec: virtio 1.2, 5.4.
#pragma once

#include <optional>
#include <string>

#include "vmm/virtio/device.h"

namespace sm {

class RngDevice final : public VirtioDevice {
 public:
  explicit RngDevice(std::string name) : name_(std::move(name)) {}

  std::string_view name() const override { return name_; }
  VirtioDeviceType type() const override { return VirtioDeviceType::kEntropy; }
  std::uint64_t features() const override { return kRingEventIdx | kRingIndirectDesc; }
  std::span<const std::uint16_t> queue_max_sizes() const override { return kQueueSizes; }
  void attach(VirtioInterrupt& interrupt, std::mutex& lock) override;
  void read_config(std::uint32_t offset, std::span<std::byte> out) const override;
  void write_config(std::uint32_t offset, std::span<const std::byte> in) override;
  Status activate(VirtioActivation activation) override;
  Result<bool> process_queue(std::uint32_t index) override;
  QueuePosition queue_position(std::uint32_t) const override { return queue_->position(); }
  void reset() override;

  // Limit: more than any real driver asks for at once, little enough that one request cannot hold
  // up the loop. The rest of a larger buffer stays unwritten, as the used length says.
  static constexpr std::uint64_t kMaxBytesPerRequest = 64 << 10;
  static constexpr int kMaxChainsPerTurn = 8;

 private:
  static constexpr std::uint16_t kQueueSizes[] = {64};

  Result<std::uint32_t> answer();

  std::string name_;
  VirtioInterrupt* interrupt_ = nullptr;
  std::optional<Queue> queue_;  // while active
  Chain chain_;
};

}  // namespace sm
