// CaptureRecord: what a worker hands to its parent of a machine that it has just saved, beside the
// memory: the worker may not open files, the parent completes the snapshot. The parent does not
// trust it: it is checked like a file. Limit: kMaxCaptureBytes.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/result.h"
#include "vmm/memory/page_range.h"
#include "vmm/snapshot/machine_state.h"
#include "vmm/snapshot/manifest.h"

namespace sm {

inline constexpr std::size_t kMaxCaptureBytes = 64u << 20;

struct CaptureRecord {
  SnapshotManifest facts;  // but for what the parent adds
  MachineState state;
  std::vector<PageRange> changed;  // of a diff
};

std::vector<std::byte> encode_capture(const CaptureRecord& record);
// kCorrupt, kLimit, kUnsupported.
Result<CaptureRecord> decode_capture(std::span<const std::byte> bytes);

}  // namespace sm
