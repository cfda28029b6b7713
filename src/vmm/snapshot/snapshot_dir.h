// A snapshot on disk: a directory with manifest.json, state.bin and memory.img.
//
//   writer = SM_TRY(SnapshotWriter::create(path, ...));      // path.tmp-<random>, beside it
//   pwrite to writer.memory_fd() ...                         // what is not written stays a hole
//   SM_TRY_STATUS(writer.commit(manifest, state));           // fsync, rename: old or new, never
//   half
//
//   snapshot = SM_TRY(Snapshot::open(path));                 // manifest and state, checked
//   mapping of snapshot.memory_fd() -> GuestMemory
//
// The paths' owner may be hostile to the content, not to the process: everything read is checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "vmm/memory/page_range.h"
#include "vmm/snapshot/machine_state.h"
#include "vmm/snapshot/manifest.h"

namespace sm {

class SnapshotWriter {
 public:
  // `path` must not exist, or be a snapshot when `replace` is set. Memory has `memory_bytes` (a
  // multiple of 4096), at first all zero.
  static Result<std::unique_ptr<SnapshotWriter>> create(const std::string& path,
                                                        std::uint64_t memory_bytes, bool replace);
  // Not committed: removes everything.
  ~SnapshotWriter();
  SnapshotWriter(const SnapshotWriter&) = delete;
  SnapshotWriter& operator=(const SnapshotWriter&) = delete;
  SnapshotWriter(SnapshotWriter&&) = delete;
  SnapshotWriter& operator=(SnapshotWriter&&) = delete;

  // For whoever writes pages: pwrite at the offset of the page in RAM (guest memory's regions one
  // after the other, without the gap between them). Zero pages should not be written.
  int memory_fd() const;
  // For a diff: which pages (4096 bytes, by number, ascending ranges) this snapshot holds; the
  // others are the base's. Not called: all of them.
  using PageRange = sm::PageRange;
  void set_pages(std::vector<PageRange> pages);
  // Completes it under its name. Fills in the manifest's format, state_bytes and state_crc. kIo
  // when the disk is full: nothing is left behind and what was there before still is.
  Status commit(Manifest manifest, const MachineState& state);
  // The same when the caller does not want to wait for the disk: everything is in place for
  // readers, but a power cut may lose it.
  Status commit_without_sync(Manifest manifest, const MachineState& state);
};

class Snapshot {
 public:
  // Reads and checks manifest, state, sizes and the memory image's checksums. kNotFound, kCorrupt,
  // kLimit, kUnsupported. The image is read only when it is not the very file (device, inode, size,
  // times) that was found whole before, so that a restore does not cost a read of all memory.
  static Result<Snapshot> open(const std::string& path);

  const Manifest& manifest() const;
  const MachineState& state() const;
  MachineState take_state();
  // Read-only; size() bytes long. A diff's own file, not the base's.
  const UniqueFd& memory_fd() const;
  UniqueFd take_memory();
  // A diff: its pages. Empty otherwise.
  std::span<const SnapshotWriter::PageRange> pages() const;

  // Reads the memory image again, whatever is known of it. For `snapshot verify`.
  Status verify() const;
};

// Removes a snapshot: renamed away first, so that nobody sees half of one.
Status remove_snapshot(const std::string& path);

}  // namespace sm
