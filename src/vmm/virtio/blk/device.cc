#include "vmm/virtio/blk/device.h"

#include <cstring>

#include "base/check.h"

namespace sm {

namespace {

constexpr std::uint64_t bit(unsigned n) { return 1ull << n; }

// 4 KiB blocks on 512-byte sectors, as the files below have them.
constexpr std::uint8_t kPhysicalBlockExponent = 3;
constexpr std::uint16_t kMinIoBlocks = 8;

}  // namespace

Result<std::unique_ptr<BlkDevice>> BlkDevice::create(BlkDeviceConfig config,
                                                     std::unique_ptr<BlockBackend> backend) {
  if (config.serial.size() > blk::kSerialBytes) {
    return fail(Code::kInvalidArgument, "disk serial '" + config.serial + "' is too long",
                "use at most 20 bytes");
  }
  std::unique_ptr<BlkDevice> device(new BlkDevice(std::move(config), nullptr));
  if (backend != nullptr) {
    SM_TRY_STATUS(device->check_backend(*backend));
    device->backend_ = std::move(backend);
    device->disk_.backend = device->backend_.get();
  }
  return device;
}

BlkDevice::BlkDevice(BlkDeviceConfig config, std::unique_ptr<BlockBackend> backend)
    : config_(std::move(config)), backend_(std::move(backend)) {
  disk_.read_only = config_.access == Access::kReadOnly;
  std::memcpy(disk_.serial.data(), config_.serial.data(), config_.serial.size());
}

Status BlkDevice::check_backend(const BlockBackend& backend) const {
  if (config_.access == Access::kReadWrite && backend.access() == Access::kReadOnly) {
    return fail(Code::kInvalidArgument, config_.name + ": writable disk on a read-only file");
  }
  return {};
}

Status BlkDevice::bind(std::unique_ptr<BlockBackend> backend) {
  SM_CHECK(lock_ != nullptr && backend != nullptr);
  SM_TRY_STATUS(check_backend(*backend));
  std::lock_guard lock(*lock_);
  if (backend_ != nullptr) {
    return fail(Code::kInvalidArgument, config_.name + ": a disk is already bound");
  }
  backend_ = std::move(backend);
  disk_.backend = backend_.get();
  interrupt_->config_changed();
  return {};
}

SnapshotDevice BlkDevice::describe() const {
  return {.type = "blk",
          .serial = config_.serial,
          .bytes = backend_ == nullptr ? 0 : backend_->size(),
          .read_only = disk_.read_only};
}

Status BlkDevice::copy_to(int file) const {
  if (backend_ == nullptr) return fail(Code::kInvalidArgument, config_.name + ": no disk is bound");
  return backend_->copy_to(file);
}

std::uint64_t BlkDevice::features() const {
  std::uint64_t features = kRingEventIdx | kRingIndirectDesc | bit(VIRTIO_BLK_F_SIZE_MAX) |
                           bit(VIRTIO_BLK_F_SEG_MAX) | bit(VIRTIO_BLK_F_BLK_SIZE) |
                           bit(VIRTIO_BLK_F_TOPOLOGY) | bit(VIRTIO_BLK_F_FLUSH);
  if (disk_.read_only) return features | bit(VIRTIO_BLK_F_RO);
  return features | bit(VIRTIO_BLK_F_DISCARD) | bit(VIRTIO_BLK_F_WRITE_ZEROES);
}

void BlkDevice::attach(VirtioInterrupt& interrupt, std::mutex& lock) {
  interrupt_ = &interrupt;
  lock_ = &lock;
}

void BlkDevice::read_config(std::uint32_t offset, std::span<std::byte> out) const {
  blk::Config config{};
  config.capacity = backend_ == nullptr ? 0 : backend_->size() / blk::kSectorBytes;
  config.size_max = blk::kMaxSegmentBytes;
  config.seg_max = blk::kMaxSegments;
  config.blk_size = blk::kSectorBytes;
  config.physical_block_exp = kPhysicalBlockExponent;
  config.min_io_size = kMinIoBlocks;
  if (!disk_.read_only) {
    config.max_discard_sectors = blk::kMaxDiscardSectors;
    config.max_discard_seg = blk::kMaxDiscardRanges;
    config.discard_sector_alignment = 1u << kPhysicalBlockExponent;
    config.max_write_zeroes_sectors = blk::kMaxZeroSectors;
    config.max_write_zeroes_seg = blk::kMaxZeroRanges;
    config.write_zeroes_may_unmap = 1;
  }
  copy_config(std::as_bytes(std::span(&config, 1)), offset, out);
}

// Nothing is writable: the write-back mode cannot be changed.
void BlkDevice::write_config(std::uint32_t, std::span<const std::byte>) {}

Status BlkDevice::activate(VirtioActivation activation) {
  disk_.write_through = (activation.features & bit(VIRTIO_BLK_F_FLUSH)) == 0;
  Queue& queue = activation.queues.front();
  GuestMemory& memory = queue.memory();
  active_.emplace(Active{std::move(queue), blk::RequestExecutor(memory)});
  return {};
}

void BlkDevice::reset() { active_.reset(); }

Result<bool> BlkDevice::process_queue(std::uint32_t) {
  Active& active = *active_;
  std::uint64_t bytes = 0;
  bool more = true;
  for (int i = 0; i < kMaxChainsPerTurn && bytes < kMaxBytesPerTurn; ++i) {
    more = SM_TRY(active.queue.pop(chain_));
    if (!more) break;
    const blk::Outcome outcome = SM_TRY(active.executor.execute(disk_, chain_));
    SM_TRY_STATUS(active.queue.push(chain_, outcome.written));
    bytes += outcome.moved;
    changed_ |= outcome.changed;
  }
  SM_TRY_STATUS(notify_used(active.queue, *interrupt_));
  return more;
}

}  // namespace sm
