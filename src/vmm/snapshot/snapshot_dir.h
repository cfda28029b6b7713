// A snapshot on disk: a directory with manifest.json, state.bin, memory.img and memory.sum, and
// with disk.img and disk.sum when the guest has a disk that it may write to. See
// docs/reference/snapshot-format.md.
//
//   writer = SM_TRY(SnapshotWriter::create(path, bytes, false));  // path.tmp-<random>, beside it
//   pwrite to writer->memory_fd() ...                             // the rest stays holes
//   SM_TRY_STATUS(writer->commit(manifest, state));               // fsync, rename: never half
//
//   snapshot = SM_TRY(Snapshot::open(path));                      // manifest and state, checked
//   mapping of snapshot.memory_fd() -> GuestMemory
//
// Everything read is checked: who could write to the directory may have stored anything there.
// While a snapshot is mapped its files must not change; that is for the directory's mode (0700).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "vmm/memory/page_range.h"
#include "vmm/snapshot/machine_state.h"
#include "vmm/snapshot/manifest.h"
#include "vmm/snapshot/memory_sum.h"

namespace sm {

namespace snapshot_files {
struct ImageFiles;
Result<SnapshotManifest> probe(int directory);
}  // namespace snapshot_files

// Not thread-safe; several for one path may be at work, in any processes.
class SnapshotWriter {
 public:
  // `path` must not exist, or be a snapshot when `replace` is set. Memory has `memory_bytes` (a
  // multiple of 4096), at first all zero. Also removes what killed writers left beside `path`.
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
  int memory_fd() const { return memory_.get(); }
  // The snapshot also holds what is on that disk, SnapshotManifest::disk. The descriptor of a file
  // of its size, all holes, for whoever copies it; once.
  Result<int> add_disk(const SnapshotDisk& disk);
  // For a diff: which pages (4096 bytes, by number, ascending ranges that do not touch) this
  // snapshot holds; the others are the base's. Goes with SnapshotManifest::base. Not called: all of
  // them.
  using PageRange = sm::PageRange;
  void set_pages(std::vector<PageRange> pages) { pages_ = std::move(pages); }
  // Completes it under its name, once. Fills in the manifest's format, state_bytes and state_crc,
  // memory_bytes when it is 0 and memory_digest when it is empty. Reads the memory image for its
  // checksums, so the VM need not wait for this. kInvalidArgument for what could not be read back;
  // kIo when the disk is full. After an error nothing is left behind and what was there before
  // still is.
  Status commit(SnapshotManifest manifest, const MachineState& state);
  // The same when the caller does not want to wait for the disk: everything is in place for
  // readers, but a power cut may lose it.
  Status commit_without_sync(SnapshotManifest manifest, const MachineState& state);

 private:
  SnapshotWriter() = default;
  Status complete(SnapshotManifest manifest, const MachineState& state, bool sync);
  Status fill(SnapshotManifest manifest, const MachineState& state, bool sync);
  Status write_sum(const snapshot_files::ImageFiles& names, int image, MemorySum sum, bool sync);
  Status publish(bool sync);
  void discard();

  UniqueFd parent_;
  std::string path_;
  std::string name_;       // in parent_
  std::string temporary_;  // in parent_; empty once committed or discarded
  UniqueFd directory_;     // holds the lock that says that this writer lives
  UniqueFd memory_;
  std::uint64_t memory_bytes_ = 0;
  UniqueFd disk_;
  std::optional<SnapshotDisk> disk_facts_;
  bool replace_ = false;
  std::optional<std::vector<PageRange>> pages_;
};

class Snapshot {
 public:
  // Reads and checks manifest, state, sizes and the memory image's checksums; of a diff, also that
  // its base is there and is the very one. kNotFound, kCorrupt, kLimit, kUnsupported. The image is
  // read only when it is not the very file (device, inode, size, times) that was found whole
  // before, so that a restore does not cost a read of all memory.
  static Result<Snapshot> open(const std::string& path);

  const SnapshotManifest& manifest() const { return manifest_; }
  const MachineState& state() const { return state_; }
  MachineState take_state() { return std::move(state_); }
  // Read-only; manifest().memory_bytes long. A diff's own file, not the base's.
  const UniqueFd& memory_fd() const { return memory_; }
  // For who maps it and needs nothing else any more; verify() no longer works.
  UniqueFd take_memory() { return std::move(memory_); }
  // Read-only; manifest().disk->bytes long; invalid without one. Never to be written: what goes on
  // from it needs a copy.
  const UniqueFd& disk_fd() const { return disk_; }
  UniqueFd take_disk() { return std::move(disk_); }
  // A diff: its pages. Empty otherwise.
  std::span<const PageRange> pages() const;
  // A diff: its base, opened and checked like any other.
  Result<Snapshot> open_base() const;

  // Reads the images again, whatever is known of them. For `snapshot verify`.
  Status verify() const;

 private:
  Snapshot() = default;
  friend Result<SnapshotManifest> snapshot_files::probe(int directory);
  // Checksums of the files with the checksums.
  struct SumCrcs {
    std::uint32_t memory = 0;
    std::uint32_t disk = 0;
  };
  // All but the content of the images.
  static Result<Snapshot> read_parts(int directory, SumCrcs& crcs);
  static Result<Snapshot> read(int directory);

  SnapshotManifest manifest_;
  MachineState state_;
  UniqueFd memory_;
  MemorySum sum_;
  UniqueFd disk_;
  MemorySum disk_sum_;
};

// Whether a snapshot could be made there, as far as that shows before: errors as of
// SnapshotWriter::create.
Status check_snapshot_place(const std::string& path, bool replace);

// Only the manifest, for lists. The other files may be damaged.
Result<SnapshotManifest> read_snapshot_manifest(const std::string& path);

// The same when all files are there and fit together, as far as that shows without reading the
// memory image. Errors as of Snapshot::open.
Result<SnapshotManifest> probe_snapshot(const std::string& path);

// Something with a manifest is there.
bool has_snapshot(const std::string& path);

// Gives the snapshot `from`, whose memory has that digest, a second name: the files are the same,
// on disk once. A snapshot of the name `to` is replaced at once. kGone: `from` is another one by
// now; kInvalidArgument, and as probe_snapshot. After an error everything is as it was.
Status link_snapshot(const std::string& from, const std::string& memory_digest,
                     const std::string& to);

// Removes a snapshot: renamed away first, so that nobody sees half of one. kNotFound;
// kInvalidArgument for a directory that is none. Diffs against it can no longer be opened.
Status remove_snapshot(const std::string& path);

}  // namespace sm
