// SnapshotSource: VMs that go on from one snapshot of the user's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "runtime/bake/saved_machine.h"
#include "runtime/vm/cold_boot.h"
#include "runtime/vm/vm_source.h"

namespace sm {

class SnapshotSource final : public VmSource {
 public:
  // `boot` has been checked; its layers are the machine's.
  SnapshotSource(BootConfig boot, const SavedMachine& machine)
      : boot_(std::move(boot)), facts_(machine.facts) {}
  std::uint64_t memory_bytes() const override { return facts_.memory_bytes; }
  Result<VmLaunch> launch(const VmDir& dir, const std::string& id) override;
  std::optional<WorkerCommand> spare_worker() const override {
    return facts_.disk ? std::nullopt : spare_command(boot_);
  }
  // It is the user's: it stays.
  void on_restore_failed(const std::string&) override {}

 private:
  BootConfig boot_;
  SavedMachine::Facts facts_;
};

}  // namespace sm
