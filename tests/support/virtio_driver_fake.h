// VirtioDriverFake: a guest's virtio-mmio driver for tests: drives the registers of a transport and
// owns one RingFake per queue. InterruptFake and IrqLineFake stand for what lies on the other side
// of a device and of a transport.
#pragma once

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/event_loop.h"
#include "support/chain_builder.h"
#include "vmm/bus/bus_device.h"
#include "vmm/irqchip/irq_line.h"
#include "vmm/virtio/device.h"

namespace sm::test {

// Counts what a device asked for when a test drives the device without a transport.
class InterruptFake : public VirtioInterrupt {
 public:
  void used_buffers() override { ++used_buffers_count; }
  void config_changed() override { ++config_changed_count; }
  void needs_reset() override { ++needs_reset_count; }

  std::atomic<int> used_buffers_count{0};
  std::atomic<int> config_changed_count{0};
  std::atomic<int> needs_reset_count{0};
};

class IrqLineFake : public IrqLine {
 public:
  explicit IrqLineFake(std::atomic<int>& count) : count_(&count) {}
  void trigger() override { count_->fetch_add(1); }

 private:
  std::atomic<int>* count_;
};

// Runs the loop until `done` says true; false when it has not within a minute.
template <class F>
bool run_until(EventLoop& loop, F&& done) {
  const Deadline deadline = Deadline::after(std::chrono::seconds(60));
  while (!done()) {
    if (deadline.passed()) return false;
    loop.run_once(Deadline::after(std::chrono::milliseconds(20)));
  }
  return true;
}

class VirtioDriverFake {
 public:
  VirtioDriverFake(BusDevice& registers, GuestArena& arena) : mmio_(&registers), arena_(&arena) {}

  GuestArena& arena() const { return *arena_; }

  std::uint32_t read32(std::uint64_t offset) {
    std::uint32_t value = 0;
    mmio_->read(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  void write32(std::uint64_t offset, std::uint32_t value) {
    mmio_->write(offset, std::as_bytes(std::span(&value, 1)));
  }
  template <class T>
  T read_config(std::uint64_t offset) {
    T value{};
    mmio_->read(VIRTIO_MMIO_CONFIG + offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

  std::uint32_t status() { return read32(VIRTIO_MMIO_STATUS); }
  bool needs_reset() { return (status() & VIRTIO_CONFIG_S_NEEDS_RESET) != 0; }
  void add_status(std::uint32_t bits) { write32(VIRTIO_MMIO_STATUS, status() | bits); }
  std::uint32_t interrupt_status() { return read32(VIRTIO_MMIO_INTERRUPT_STATUS); }
  void acknowledge(std::uint32_t bits) { write32(VIRTIO_MMIO_INTERRUPT_ACK, bits); }

  std::uint64_t offered_features() {
    write32(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    const std::uint64_t high = read32(VIRTIO_MMIO_DEVICE_FEATURES);
    write32(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    return high << 32 | read32(VIRTIO_MMIO_DEVICE_FEATURES);
  }
  void set_driver_features(std::uint64_t features) {
    write32(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    write32(VIRTIO_MMIO_DRIVER_FEATURES, static_cast<std::uint32_t>(features));
    write32(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    write32(VIRTIO_MMIO_DRIVER_FEATURES, static_cast<std::uint32_t>(features >> 32));
  }
  void reset() {
    write32(VIRTIO_MMIO_STATUS, 0);
    rings_.clear();
  }
  // Up to FEATURES_OK with the given features; true when the device accepted them.
  bool negotiate(std::uint64_t features) {
    add_status(VIRTIO_CONFIG_S_ACKNOWLEDGE);
    add_status(VIRTIO_CONFIG_S_DRIVER);
    set_driver_features(features);
    add_status(VIRTIO_CONFIG_S_FEATURES_OK);
    return (status() & VIRTIO_CONFIG_S_FEATURES_OK) != 0;
  }
  std::uint16_t queue_max(std::uint32_t index) {
    write32(VIRTIO_MMIO_QUEUE_SEL, index);
    return static_cast<std::uint16_t>(read32(VIRTIO_MMIO_QUEUE_NUM_MAX));
  }
  // Writes a queue's registers as given, good or bad.
  void set_queue(std::uint32_t index, std::uint32_t size, GuestPhysAddr descriptors,
                 GuestPhysAddr available, GuestPhysAddr used) {
    write32(VIRTIO_MMIO_QUEUE_SEL, index);
    write32(VIRTIO_MMIO_QUEUE_NUM, size);
    set_address(VIRTIO_MMIO_QUEUE_DESC_LOW, descriptors);
    set_address(VIRTIO_MMIO_QUEUE_AVAIL_LOW, available);
    set_address(VIRTIO_MMIO_QUEUE_USED_LOW, used);
    write32(VIRTIO_MMIO_QUEUE_READY, 1);
  }
  // Lays out queue `index` and makes it ready.
  RingFake& add_queue(std::uint32_t index, std::uint16_t size) {
    if (rings_.size() <= index) rings_.resize(index + 1);
    rings_[index] = std::make_unique<RingFake>(*arena_, size);
    const RingFake& r = *rings_[index];
    set_queue(index, size, r.descriptors(), r.available(), r.used());
    return r_at(index);
  }
  void driver_ok() { add_status(VIRTIO_CONFIG_S_DRIVER_OK); }

  // Everything a well-behaved driver does, with queues of at most `size`; true when the device is
  // running. `unwanted` features are left off.
  bool start(std::uint16_t size = 128, std::uint64_t unwanted = 0) {
    if (!negotiate(offered_features() & ~unwanted)) return false;
    for (std::uint32_t i = 0; queue_max(i) != 0; ++i) add_queue(i, std::min(size, queue_max(i)));
    driver_ok();
    return !needs_reset();
  }

  RingFake& ring(std::uint32_t index) { return r_at(index); }
  void kick(std::uint32_t index) { write32(VIRTIO_MMIO_QUEUE_NOTIFY, index); }

  // Runs the device's loop until the queue gives a chain back, at most five seconds.
  std::optional<ring::UsedElement> wait_used(EventLoop& loop, std::uint32_t index) {
    std::optional<ring::UsedElement> used;
    run_until(loop, [&] { return (used = r_at(index).take_used()).has_value(); });
    return used;
  }
  bool wait_needs_reset(EventLoop& loop) {
    return run_until(loop, [&] { return needs_reset(); });
  }

 private:
  RingFake& r_at(std::uint32_t index) {
    SM_CHECK(index < rings_.size() && rings_[index] != nullptr);
    return *rings_[index];
  }
  void set_address(std::uint64_t low_register, GuestPhysAddr address) {
    write32(low_register, static_cast<std::uint32_t>(address.raw()));
    write32(low_register + 4, static_cast<std::uint32_t>(address.raw() >> 32));
  }

  BusDevice* mmio_;
  GuestArena* arena_;
  std::vector<std::unique_ptr<RingFake>> rings_;
};

}  // namespace sm::test
