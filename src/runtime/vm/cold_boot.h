// ColdBoot: VMs that boot the guest's kernel with an image's layers.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/paths.h"
#include "runtime/root_disk.h"
#include "runtime/vm/vm_source.h"

namespace sm {

struct BootConfig {
  Assets assets;
  std::vector<std::string> layers;  // squashfs files, base first
  RootDisk root_disk;               // keeps what is written to the root
  std::uint64_t memory_mib = 256;
  std::uint32_t vcpus = 1;
  std::string engine = "auto";
  std::string hostname;  // empty: the VM's id
  bool no_sandbox = false;
  std::vector<std::string> secrets;  // "NAME=value", told to the guest when it is ready
  bool new_machine_id = false;       // the guest gets one of its own
};
Status check_boot_config(const BootConfig& config);

class ColdBoot final : public VmSource {
 public:
  // `config` has been checked.
  explicit ColdBoot(BootConfig config) : config_(std::move(config)) {}
  std::uint64_t memory_bytes() const override { return config_.memory_mib << 20; }
  Result<VmLaunch> launch(const VmDir& dir, const std::string& id) override;
  void on_restore_failed(const std::string&) override {}

 private:
  BootConfig config_;
};

// A worker with this folder and these layers; the caller adds where the guest comes from.
WorkerCommand base_command(const BootConfig& config, const VmDir& dir, const std::string& hostname);
// The worker for one VM that boots; the guest gets `hostname`.
WorkerCommand boot_command(const BootConfig& config, const VmDir& dir, const std::string& hostname);
// VmSource::spare_worker() of sources whose VMs of `config` go on from snapshots.
std::optional<WorkerCommand> spare_command(const BootConfig& config);
// The JSON of a guest's configuration.
std::string guest_config(const std::string& hostname);

// What a guest is told when it has booted (generation 0) or was restored: its own name, and what is
// in no snapshot.
Result<agent::ResumeRequest> resume_request(const BootConfig& config, std::uint32_t generation,
                                            const std::string& id);

// Up to 64 letters, digits, '.', '-' and '_', not beginning with '-'.
Status check_hostname(const std::string& name);

}  // namespace sm
