// Vm: a virtual machine that runs. All functions but moves and destruction may be called from any
// thread at a time.
#pragma once

#include <supermachine/error.h>
#include <supermachine/exec.h>
#include <supermachine/image.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace supermachine {

enum class Engine { kAuto, kKvm, kSoft };  // auto: KVM where it works, else a CPU in software

struct VmConfig {
  std::uint64_t memory_mib = 0;  // 64 ... 1048576; 0: the image's
  std::uint32_t vcpus = 0;       // 1 ... 32; 0: the image's
  Engine engine = Engine::kAuto;
  std::string hostname;          // empty: the VM's id
  std::vector<std::string> env;  // "NAME=value", over the image's
  // "NAME=value": as env, but told to the guest alone, over its agent's socket: in no snapshot that
  // was made before, no file, no command line.
  std::vector<std::string> secrets;
  bool new_machine_id = false;  // /etc/machine-id becomes a new one
  std::chrono::milliseconds start_timeout = std::chrono::seconds(180);
};

// A port of this host, 127.0.0.1 only, that leads to a TCP port of a VM, until it is destroyed.
class SUPERMACHINE_API PortForward {
 public:
  ~PortForward();
  PortForward(PortForward&&) noexcept;
  PortForward& operator=(PortForward&&) noexcept;
  std::uint16_t port() const;  // of this host

  struct Impl;

 private:
  friend class Vm;
  explicit PortForward(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

class SUPERMACHINE_API Vm {
 public:
  // Starts a VM of an image and returns when programs can be run in it. The image's own command
  // does not run until workload_builder() starts it. kStartFailed, kStartTimeout, kLimit (the host
  // has too little memory), kInvalidArgument, kClosed.
  static Result<Vm> start(const Image& image, const VmConfig& config = {});
  static void start_async(const Image& image, const VmConfig& config,
                          std::function<void(Result<Vm>)> done);
  // Ends the VM without waiting for it.
  ~Vm();
  Vm(Vm&&) noexcept;
  Vm& operator=(Vm&&) noexcept;

  const std::string& id() const;  // twelve hexadecimal digits
  bool alive() const;

  // Runs a program to its end and collects what it prints.
  Result<ExecOutcome> run(std::vector<std::string> argv);
  // Starts a program.
  Result<ExecChild> exec(std::vector<std::string> argv);
  ExecBuilder exec_builder();
  // The image's own command (ENTRYPOINT and CMD), once per VM. argv() replaces CMD. When it ends,
  // the VM ends. Its environment, folder and user become the defaults of later programs.
  ExecBuilder workload_builder();
  // To the workload's process group, also of one that came with the snapshot. kInvalidState when
  // none runs.
  Result<void> signal(int number);

  // Whole files of the guest, as root. The path is absolute. A new file gets `mode`, an existing
  // one keeps its own and is replaced at once. kNotFound, kPermission, kIo, kLimit.
  Result<void> write_file(const std::string& path, std::string_view content,
                          std::uint32_t mode = 0644);
  void write_file_async(const std::string& path, std::string_view content, std::uint32_t mode,
                        std::function<void(Result<void>)> done);
  Result<std::string> read_file(const std::string& path, std::size_t limit = 64u << 20);
  void read_file_async(const std::string& path, std::size_t limit,
                       std::function<void(Result<std::string>)> done);

  // A stream socket, non-blocking and close-on-exec, that is connected to a TCP port of the guest;
  // the caller closes it. kConnectFailed when nothing listens there.
  Result<int> connect(std::uint16_t guest_port);
  void connect_async(std::uint16_t guest_port, std::function<void(Result<int>)> done);
  // Host port 0: one that is free; see PortForward::port(). kIo when it is taken.
  Result<PortForward> expose_tcp(std::uint16_t host_port, std::uint16_t guest_port);

  // Takes the VM's CPUs away from its guest, and gives them back. What talks to the guest meanwhile
  // waits, and fails after a minute or so. Twice is harmless.
  Result<void> pause();
  void pause_async(std::function<void(Result<void>)> done);
  Result<void> resume();
  void resume_async(std::function<void(Result<void>)> done);

  // Saves the whole machine in the folder `dir`, for Image::from_snapshot. Its parent exists; `dir`
  // does not, or is a snapshot, which is replaced at once when the new one is complete.
  //   snapshot       the VM is paused then; resume() lets it go on, stop() ends it
  //   snapshot_live  it goes on after some milliseconds, while its memory is written
  //   snapshot_diff  the same, with only what differs from `base`, the snapshot that this VM was
  //                  started from (Image::from_snapshot); `base` must stay where it is
  // In the VMs that are started from it, connections are gone, and programs that were started with
  // spawn() or output() end; what runs detached (ExecBuilder::detach) goes on. Secrets of the VM
  // are in the memory that is saved. Several calls at a time are carried out one after the other.
  // kInvalidState: its workload runs and is not detached; kInvalidArgument, kNotFound: `base` is
  // another snapshot, or none; kIo, kPermission: the disk; kVmGone: the VM ended before it was
  // saved. After an error nothing is left behind, and the VM is as it was before.
  Result<void> snapshot(const std::string& dir);
  void snapshot_async(const std::string& dir, std::function<void(Result<void>)> done);
  Result<void> snapshot_live(const std::string& dir);
  void snapshot_live_async(const std::string& dir, std::function<void(Result<void>)> done);
  Result<void> snapshot_diff(const std::string& dir, const std::string& base);
  void snapshot_diff_async(const std::string& dir, const std::string& base,
                           std::function<void(Result<void>)> done);

  // Ends the VM; returns when its process is gone. The second call is harmless. A VM of a pool goes
  // back to the pool instead, as by PooledVm::release().
  Result<void> stop();
  void stop_async(std::function<void(Result<void>)> done);

  struct Impl;

 private:
  friend class PooledVm;
  friend class Pool;
  friend struct BakeAccess;
  explicit Vm(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace supermachine
