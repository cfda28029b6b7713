// Vm: one machine, from its configuration to its last joined thread. Owns everything below it.
//
//   created --start()--> running --(guest or engine ends, or stop())--> ended --stop()--> stopped
//                       ^       |
//               resume()|       v pause(), or the event `hold_at`
//                       '- paused           capture() in either, which leaves it as it was
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
#include "vmm/cpu/vcpu_thread.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/snapshot/machine_state.h"
#include "vmm/snapshot/manifest.h"
#include "vmm/snapshot/memory_writer.h"

namespace sm {

struct VmDisk {
  UniqueFd file;  // invalid: the disk is empty, of capacity 0, and stays so
  bool read_only = true;
  std::string serial;  // at most 20 bytes; how the guest finds it
  // What the driver of a saved machine knows of its size: a file of another one is refused. 0: any.
  std::uint64_t saved_bytes = 0;
  // Empty at first. The file is bound when the guest says that it awaits its image, before the
  // vCPU that said so goes on; to a machine that was saved there, at its start.
  bool late = false;
};

// A unix socket on the host whose connections reach a vsock port of the guest.
struct VsockListener {
  std::string path;
  std::uint32_t guest_port = 0;
};

// A machine that goes on from a snapshot instead of booting: no kernel, no initramfs, no command
// line. The rest of the configuration must give the same devices as the saved machine's.
struct VmRestore {
  MachineState state;
  std::vector<MemoryLayer> memory;
  // It was saved before it had an image: its agent does not listen yet, and nothing in it knows
  // that it was saved, so that it keeps its generation.
  bool awaits_image = false;
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
  std::optional<VmRestore> restore;
  // For captures; opened by the Vm when it is not given, which a sandbox may not allow.
  std::optional<MemoryWriter> memory_writer;
  // The vCPU that rings one of these events stays out of the guest, exactly behind that
  // instruction, until release().
  std::vector<doorbell::Event> hold_at;
};

// Where a captured machine's memory goes: an empty file of its size; and what is on the disk that
// the guest may write to, likewise. Without a file for it (-1) a disk that was written to is
// kUnsupported.
struct CaptureTarget {
  int memory_file = -1;
  int disk_file = -1;
  bool changed_only = false;  // only the pages that differ from VmRestore::memory
};
struct Capture {
  MachineState state;
  std::vector<PageRange> changed;       // with changed_only
  std::vector<SnapshotDevice> devices;  // the virtio devices, in slot order
  bool awaits_image = false;            // there are late disks, and they are empty still
  std::uint64_t written_bytes = 0;
  Duration pause{};  // how long the guest stood still
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
  // What each vCPU has done, in their order; of a stopped VM, in all. Any thread but the VM's own.
  virtual std::vector<VcpuStats> stats() = 0;
  // Takes every vCPU out of the guest, between two instructions; resume() lets them go on. The
  // guest's clock runs on, as with a stopped process. kTimeout when a device does not let a vCPU
  // go.
  virtual Status pause() = 0;
  virtual void resume() = 0;
  // Lets the vCPU go on that rang one of VmConfig::hold_at.
  virtual void release() = 0;
  // Saves the machine as it stands between two instructions of every vCPU; a running one goes on
  // afterwards. kGone when it has ended. Any thread but the VM's own.
  virtual Result<Capture> capture(const CaptureTarget& target) = 0;

  // The newest part of the guest's console, printable.
  virtual std::string console_tail(std::size_t bytes) const = 0;

 protected:
  Vm() = default;
};

}  // namespace sm
