// Vm: one machine, from its configuration to its last joined thread. Owns everything below it.
//
//   created --start()--> running --(guest or engine ends, or stop())--> ended --stop()--> stopped
//
// Threads: `loop` (vsock, rng, console input), `blk` (disk I/O) and vcpu-0..N-1; all are members
// and joined by stop(). The order of destruction is the reverse of the order of construction.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/doorbell.h"
#include "vmm/cpu/engine.h"

namespace sm {

struct VmDisk {
  UniqueFd file;
  bool read_only = true;
  std::string serial;  // at most 20 bytes; how the guest finds it
};

// A unix socket on the host whose connections reach a vsock port of the guest.
struct VsockListener {
  std::string path;
  std::uint32_t guest_port = 0;
};

struct VmConfig {
  std::uint64_t memory_bytes = 256ull << 20;
  std::uint32_t vcpus = 1;
  UniqueFd kernel;
  std::optional<UniqueFd> initramfs;
  std::vector<std::byte> extra_initramfs;  // a second cpio archive, after the first
  std::string command_line;                // devices are appended
  std::vector<VmDisk> disks;
  std::optional<VsockListener> exec;  // starts accepting when the guest's agent is ready
  std::optional<UniqueFd> console_sink;
  std::optional<UniqueFd> console_input;  // a pipe, socket or terminal, non-blocking
};

enum class VmEnd : std::uint8_t {
  kPoweredOff,  // the guest reset or powered off the machine
  kWorkload,    // doorbell: the workload has ended
  kFatal,       // doorbell: the guest cannot go on
  kFault,       // the engine cannot go on
};

// Called on the VM's own threads; must not block and must not call back into the Vm.
struct VmCallbacks {
  std::function<void(doorbell::Event event, std::uint32_t argument, std::uint64_t at_ns)> on_event;
  // Once. The machine makes no further progress; call stop() from another thread.
  std::function<void(VmEnd end, const std::string& why)> on_end;
};

class Vm {
 public:
  // Builds the machine with every vCPU still out of the guest. `engine` is empty of memory and
  // vCPUs.
  static Result<std::unique_ptr<Vm>> create(std::unique_ptr<EngineVm> engine, VmConfig config,
                                            VmCallbacks callbacks, Log& log);
  virtual ~Vm() = default;
  Vm(const Vm&) = delete;
  Vm& operator=(const Vm&) = delete;
  Vm(Vm&&) = delete;
  Vm& operator=(Vm&&) = delete;

  virtual Status start() = 0;
  // Ends the machine in any state and joins every thread. Idempotent. Any thread but the VM's own.
  virtual void stop() = 0;
  // The newest part of the guest's console, printable.
  virtual std::string console_tail(std::size_t bytes) const = 0;

 protected:
  Vm() = default;
};

}  // namespace sm
