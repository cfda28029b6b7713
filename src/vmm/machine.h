// Machine: the parts of one VM and their order. Members stand in the order of their dependencies,
// so that the compiler destroys them in the reverse order. See vm.h for the contract and the
// threads.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/thread.h"
#include "vmm/bus/bus.h"
#include "vmm/cpu/vcpu_hold.h"
#include "vmm/cpu/vcpu_thread.h"
#include "vmm/platform/console_input.h"
#include "vmm/platform/console_log.h"
#include "vmm/platform/console_writer.h"
#include "vmm/platform/doorbell.h"
#include "vmm/platform/i8042.h"
#include "vmm/platform/uart16550.h"
#include "vmm/snapshot/memory_writer.h"
#include "vmm/virtio/blk/device.h"
#include "vmm/virtio/mmio_transport.h"
#include "vmm/virtio/rng/device.h"
#include "vmm/virtio/vsock/device.h"
#include "vmm/vm.h"

namespace sm {

class Machine final : public Vm, private DoorbellSink, private VcpuEvents {
 public:
  Machine(std::unique_ptr<EngineVm> engine, VmCallbacks callbacks, Log& log)
      : engine_(std::move(engine)), callbacks_(std::move(callbacks)), log_(log) {}
  ~Machine() override;

  // The steps of Vm::create, in order.
  Status build(VmConfig config);

  Status start() override;
  void stop() override;
  Status pause() override;
  void resume() override;
  void release() override;
  Result<Capture> capture(const CaptureTarget& target) override;
  std::vector<VcpuStats> stats() override;
  std::string console_tail(std::size_t bytes) const override { return console_.tail(bytes); }

 private:
  Status build_platform(std::optional<UniqueFd> console_sink,
                        std::optional<UniqueFd> console_input);
  Status build_devices(std::vector<VmDisk> disks, const std::optional<VsockListener>& exec);
  Status attach(VirtioDevice& device, EventLoop& loop);
  Status load(const VmConfig& config);
  Status build_vcpus(std::uint32_t count);
  Status enter_kernel();
  Status add_disk(VmDisk disk);
  Status restore(const VmRestore& saved);
  Status pause_locked();
  Result<Capture> save(const CaptureTarget& target, std::optional<MemoryWriterProcess>& child);
  Status check_disks() const;
  Status save_disk(int file) const;
  std::vector<SnapshotDevice> devices() const;
  Result<MachineState> save_state();

  // vCPU threads.
  void on_event(doorbell::Event event, std::uint32_t argument) override;
  void on_vcpu_end(std::uint32_t index, VcpuEnd end, const std::string& why) override;
  void end(VmEnd how, const std::string& why);
  void accept_exec();
  void bind_late_disks();

  std::unique_ptr<EngineVm> engine_;
  VmCallbacks callbacks_;
  std::vector<doorbell::Event> hold_at_;
  std::optional<MemoryWriter> memory_writer_;
  Log& log_;
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<EventLoop> loop_, blk_loop_;
  VcpuHold hold_;

  ConsoleLog console_;
  std::optional<ConsoleWriter> console_writer_;
  std::unique_ptr<IrqLine> uart_irq_;
  std::optional<Uart16550> uart_;
  std::unique_ptr<ConsoleInput> console_input_;
  std::optional<I8042> i8042_;
  std::optional<Doorbell> doorbell_;

  std::unique_ptr<RngDevice> rng_;
  std::unique_ptr<VsockDevice> vsock_;
  std::vector<std::unique_ptr<BlkDevice>> disks_;
  std::vector<std::unique_ptr<MmioTransport>> transports_;  // slot n is number n
  std::optional<VsockListenerId> exec_listener_;

  Bus pio_, mmio_;
  std::vector<std::unique_ptr<VcpuThread>> vcpus_;
  GuestPhysAddr entry_;
  std::atomic<bool> ended_{false};
  std::atomic<doorbell::Event> held_at_{};
  std::atomic<VcpuHold::Token> held_{0};  // at held_at_

  // Lock order: before a device's.
  std::mutex late_mutex_;
  struct LateDisk {
    BlkDevice* device;
    std::unique_ptr<BlockBackend> backend;
  };
  std::vector<LateDisk> late_disks_;  // that are empty still
  std::uint32_t bound_disks_ = 0;

  std::mutex stop_mutex_;       // guards what follows
  bool running_ = false;        // the vCPUs may be in the guest
  bool restored_ = false;       // and not started yet
  bool agent_listens_ = false;  // in the restored machine
  bool stopped_ = false;
  std::vector<VcpuStats> last_stats_;  // of the stopped vCPUs
  NamedThread loop_thread_, blk_thread_;
};

}  // namespace sm
