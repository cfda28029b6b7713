// What writer and reader of snapshot directories share: the names of the files, opening them
// without trusting them, directories under a temporary name. Internal to vmm/snapshot.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "vmm/snapshot/manifest.h"

namespace sm::snapshot_files {

inline constexpr const char* kManifest = "manifest.json";
inline constexpr const char* kState = "state.bin";
inline constexpr const char* kMemory = "memory.img";
inline constexpr const char* kMemorySum = "memory.sum";

// A file of pages, its checksums, the note that it was found whole, and the next such note.
struct ImageFiles {
  const char* image;
  const char* sum;
  const char* stamp;
  const char* new_stamp;
};
inline constexpr ImageFiles kMemoryFiles{kMemory, kMemorySum, "memory.ok", "memory.ok.new"};
inline constexpr ImageFiles kDiskFiles{"disk.img", "disk.sum", "disk.ok", "disk.ok.new"};

// Everything that may lie in a snapshot's directory.
inline constexpr std::array kAllFiles{kManifest,
                                      kState,
                                      kMemory,
                                      kMemorySum,
                                      kMemoryFiles.stamp,
                                      kMemoryFiles.new_stamp,
                                      kDiskFiles.image,
                                      kDiskFiles.sum,
                                      kDiskFiles.stamp,
                                      kDiskFiles.new_stamp};

// Where a snapshot is or will be. All work goes through the descriptor, so that a folder that is
// moved meanwhile stays the same one.
struct Place {
  UniqueFd parent;
  std::string name;
  std::string path;  // for messages
};
// kInvalidArgument for a path that cannot be a snapshot's.
Result<Place> find_place(const std::string& path);

// "<name>.tmp-<16 random hexadecimal digits>".
Result<std::string> temporary_name(const std::string& name);
// One that a writer has not finished, or never will: no snapshot.
bool is_temporary(std::string_view name);
// 128 random bits as 32 hexadecimal digits.
Result<std::string> random_hex();

// A directory below `parent`, not through a link.
Result<UniqueFd> open_directory(int parent, const std::string& name);
// The path still leads to this very directory.
bool is_at(int directory, int parent, const std::string& name);
// The snapshot that has the name at one moment, however often others replace it. kNotFound: nothing
// has the name; kInvalidArgument: something that is not a snapshot.
Result<UniqueFd> open_snapshot(int parent, const std::string& name);

// A file in a snapshot: for reading, not through a link, regular. kNotFound, kCorrupt.
Result<UniqueFd> open_regular(int directory, const char* name);
// The whole of it. kLimit when it is larger than `limit`.
Result<std::vector<std::byte>> read_whole(int directory, const char* name, std::uint64_t limit);
// A new file with this content, mode 0600.
Status write_new(int directory, const char* name, std::span<const std::byte> bytes, bool sync);

// Removes a snapshot's directory, complete or not. One with other files in it stays.
void remove_directory(int parent, const std::string& name);
// Removes what killed writers left in this folder: temporary directories of this user that nobody
// holds the lock of.
void remove_leftovers(int parent);
// A new directory (0700) under a temporary name, locked as long as the descriptor is open.
struct TemporaryDirectory {
  UniqueFd fd;
  std::string name;
};
Result<TemporaryDirectory> make_temporary(const Place& place);

// Held by who gives a name in `parent` to another snapshot in more than one step, and for a moment
// by who finds none there. kTimeout: others have it for long.
Result<UniqueFd> lock_names(int parent, bool exclusive);
// What leads to a folder here, or would when nobody were at work. Waits for those who are.
Result<UniqueFd> open_named(const std::string& path);

// A complete directory under a temporary name.
struct Unnamed {
  int parent = -1;
  const std::string& temporary;
  const std::string& name;  // that it is to have
};
struct Naming {
  bool replace = false;  // a snapshot of that name may be there; it is removed
  bool sync = false;     // on disk when this returns
  bool exchange = true;  // false: as on file systems that cannot exchange two names
};
// The name leads to the old snapshot or to the new one at any time; where the file system cannot do
// that, to none only while lock_names is held. kInvalidArgument: something is in its place. After
// an error everything is as it was.
Status give_name(const Unnamed& what, const Naming& how);

struct ManifestFile {
  SnapshotManifest manifest;
  std::uint32_t crc = 0;  // of the bytes
};
Result<ManifestFile> read_manifest(int directory);
// Everything of a snapshot but what its memory image contains: that it is there and has its size.
Result<SnapshotManifest> probe(int directory);

// That the base of a diff is there, and is the one it was taken against.
Status check_base(const SnapshotBase& base, std::uint64_t memory_bytes);
Status check_base_manifest(const SnapshotBase& base, std::uint64_t memory_bytes,
                           const SnapshotManifest& found);

}  // namespace sm::snapshot_files
