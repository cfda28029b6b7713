// Whether a snapshot can be restored here: a comparison of its manifest with what this host, this
// version of the program and the request offer. Pure function, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "vmm/snapshot/manifest.h"

namespace sm {

struct HostFacts {
  std::string cpu_model;         // that the chosen engine would give a guest
  std::string cpu_signature;     // of this host for that model; empty for portable models
  std::string kernel_digest;     // of the guest kernel that this program would boot
  std::string initramfs_digest;  // of init and agent
  // What was asked for; nothing = whatever the snapshot has.
  std::optional<std::uint64_t> memory_bytes;
  std::optional<std::uint32_t> vcpus;
  // The devices that the restored machine would get. Where the snapshot has an empty disk (capacity
  // 0), a disk of any size may be bound.
  std::optional<std::vector<SnapshotDevice>> devices;
};

// A guest that was saved on a processor of the signature `saved` (EngineCpu) can go on where `here`
// is true: they are equal, or of one vendor and all features are there.
bool signature_covers(std::string_view here, std::string_view saved);

// kUnsupported naming the first thing that differs, with both values and what to do about it.
// The engine that took the snapshot does not matter; its CPU model does.
Status check_compatible(const SnapshotManifest& manifest, const HostFacts& host);

}  // namespace sm
