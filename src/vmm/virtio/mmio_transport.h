// MmioTransport: the virtio-mmio (version 2) registers of one device. vCPU threads read and write
// registers; the device's queues are processed on the loop given at construction, so that each
// device can live on the loop that suits it. See docs/reference/virtio.md.
//
// Lock: one per device, held around every call into it. Reading and acknowledging the interrupt
// status and notifying a queue bypass it. No other lock is taken while it is held.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/event_loop.h"
#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "vmm/bus/bus_device.h"
#include "vmm/cpu/engine.h"
#include "vmm/irqchip/irq_line.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/virtio_state.h"

namespace sm {

// `device`, `memory`, `loop` and `log` outlive the transport.
struct MmioTransportArgs {
  VirtioDevice& device;
  GuestMemory& memory;
  std::unique_ptr<IrqLine> irq;
  EventLoop& loop;
  Log& log;
};

class MmioTransport final : public BusDevice, private VirtioInterrupt {
 public:
  // Thread: the loop's, or any before the loop runs.
  static Result<std::unique_ptr<MmioTransport>> create(MmioTransportArgs args);
  // Calls stop().
  ~MmioTransport() override;

  // Lets guest writes to the notify register signal the device's loop without a vCPU exit, where
  // the engine can. `base` is where the registers appear. Before the vCPUs start.
  Status register_ioevents(EngineVm& engine, GuestPhysAddr base);

  // --- snapshots ---

  // While the lock is held the device neither touches guest memory nor interrupts.
  std::unique_lock<std::mutex> freeze() { return std::unique_lock(mutex_); }
  // Everything, as it stands. Frozen, no vCPU in the guest.
  VirtioState state() const;
  // Puts a new transport and its device into a saved state. kCorrupt when no driver could have
  // brought this device there, kUnsupported for another device's. Before the vCPUs and the loop
  // run.
  Status set_state(const VirtioState& state);
  // Has the device look at its queues, and repeats an interrupt that may have been lost on the way.
  // After set_state() of all devices and vCPUs.
  void go_on();

  // Resets the device and detaches from the loop: after return nothing calls into the device, and
  // register writes have no effect. Idempotent. Thread: the loop's, or any while it does not run.
  void stop();

  std::string_view name() const override { return device_.name(); }
  void read(std::uint64_t offset, std::span<std::byte> out) override;
  void write(std::uint64_t offset, std::span<const std::byte> in) override;

 private:
  // One queue's registers. guest-controlled
  struct QueueRegisters {
    std::uint32_t size = 0;
    std::uint64_t descriptors = 0, available = 0, used = 0;
    bool ready = false;
  };
  struct QueueNotifier {
    UniqueFd event;
    WatchId watch = WatchId::kNone;
  };

  explicit MmioTransport(MmioTransportArgs args);
  Status watch_queues();

  // VirtioInterrupt
  void used_buffers() override;
  void config_changed() override;
  void needs_reset() override;

  void raise(std::uint32_t reason);
  void notify(std::uint32_t queue);
  void on_notify(std::uint32_t queue);

  // All below need the lock.
  std::uint32_t read_register_locked(std::uint64_t offset) const;
  void write_register_locked(std::uint64_t offset, std::uint32_t value);
  void write_queue_locked(std::uint64_t offset, std::uint32_t value);
  void write_status_locked(std::uint32_t value);
  void activate_locked();
  Result<VirtioActivation> activation_locked(std::span<const VirtioQueueState> saved);
  Status try_activate_locked();
  void reset_locked();
  void fail_locked(const Error& error);
  bool features_acceptable_locked() const;
  std::uint64_t offered_features() const;

  VirtioDevice& device_;
  GuestMemory& memory_;
  std::unique_ptr<IrqLine> irq_;
  EventLoop& loop_;
  Log& log_;
  std::vector<QueueNotifier> notifiers_;  // constant after create()

  std::atomic<std::uint32_t> interrupt_status_{0};
  std::atomic<std::uint32_t> config_generation_{0};

  std::mutex mutex_;  // the device's lock; guards everything below
  std::uint32_t status_ = 0;
  std::uint32_t device_features_select_ = 0;
  std::uint32_t driver_features_select_ = 0;
  std::uint64_t driver_features_ = 0;
  std::uint32_t queue_select_ = 0;
  std::vector<QueueRegisters> queues_;
  bool active_ = false;  // between a successful activation and reset, failure or stop
  bool config_change_pending_ = false;
  bool stopped_ = false;
};

}  // namespace sm
