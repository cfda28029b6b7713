// The doorbell: the guest reports an event with one instruction. See docs/reference/doorbell.md.
// Any number of vCPU threads.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/log.h"
#include "proto/doorbell.h"
#include "vmm/bus/bus_device.h"

namespace sm {

class DoorbellSink {
 public:
  virtual ~DoorbellSink() = default;
  // The guest rang. Called on the vCPU's own thread, which does not go back into the guest before
  // this returns: an implementation may block here to stop the guest at exactly this instruction.
  // Several vCPUs may ring at once.
  virtual void on_event(doorbell::Event event, std::uint32_t argument) = 0;
};

// Sits at doorbell::kPortBase. Anything but a 32-bit access to a known port is ignored, reads then
// give zero.
class Doorbell final : public BusDevice {
 public:
  // `generation`: how many times this VM was restored from a snapshot.
  Doorbell(DoorbellSink& sink, Log& log, std::uint32_t generation)
      : sink_(&sink), log_(&log), generation_(generation) {}

  std::string_view name() const override { return "doorbell"; }
  void read(std::uint64_t offset, std::span<std::byte> out) override;
  void write(std::uint64_t offset, std::span<const std::byte> in) override;

  std::uint32_t generation() const { return generation_; }
  // Before the vCPUs run.
  void set_generation(std::uint32_t generation) { generation_ = generation; }
  // How many disks have a file. Any thread.
  void set_bound_disks(std::uint32_t count) { bound_disks_ = count; }
  // At which event the guest will be held, to be saved. Before the vCPUs run.
  void add_held(doorbell::Event event) { held_ |= 1u << static_cast<unsigned>(event); }
  std::uint64_t unknown_events() const { return unknown_events_; }

 private:
  DoorbellSink* sink_;
  Log* log_;
  std::atomic<std::uint32_t> generation_;
  std::atomic<std::uint32_t> bound_disks_{0};
  std::atomic<std::uint32_t> held_{0};
  std::atomic<std::uint64_t> unknown_events_{0};
};

}  // namespace sm
