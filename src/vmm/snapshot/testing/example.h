// For tests: machine states and manifests with something in every field, and a folder to work in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "vmm/snapshot/machine_state.h"
#include "vmm/snapshot/manifest.h"

namespace sm::snapshot_testing {

// The same for the same seed, on every host.
MachineState random_state(std::uint32_t seed);
// Fits random_state(seed). Without the fields that a writer fills in.
SnapshotManifest example_manifest(const MachineState& state);
// A page that is not zero anywhere.
std::vector<std::byte> page_of(std::uint32_t seed);

// A folder that vanishes with everything in it.
class TemporaryFolder {
 public:
  // kMemory: where syncing takes no time, if the host has such a place.
  enum class Where : std::uint8_t { kDisk, kMemory };
  explicit TemporaryFolder(Where where = Where::kDisk);
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  // What lies in it, sorted.
  std::vector<std::string> names() const;

 private:
  std::string path_;
};

}  // namespace sm::snapshot_testing
