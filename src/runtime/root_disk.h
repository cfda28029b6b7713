// The disk that keeps what a VM writes to its root: an ext4 file system in a sparse file. Its pages
// on the host's disk are those that the guest has written; what it deletes is given back. Design:
// docs/design/0015-root-disk.md. Any thread; calls block.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace sm {

// As large as it looks to the guest, unless another size was asked for.
inline constexpr std::uint64_t kRootDiskBytes = 10ull << 30;
// Room for the file system itself, with its journal, and something in it; what fits into the
// block numbers of any host.
inline constexpr std::uint64_t kMinRootDisk = 64ull << 20;
inline constexpr std::uint64_t kMaxRootDisk = 4ull << 40;

struct RootDisk {
  std::string path;  // empty: none, what is written stays in memory
  std::uint64_t bytes = 0;
};

// An empty one of `bytes` at `path`, where none is; complete or not there. One of the usual size is
// a copy of one that mke2fs has made once, kept under `cache`. kNotFound: there is no mke2fs.
Status make_root_disk(const std::string& path, const std::string& cache,
                      std::uint64_t bytes = kRootDiskBytes);

// Where the host has mke2fs; empty: nowhere.
std::string find_mke2fs();
// What to do when there is none.
inline constexpr const char* kGetMke2fs = "install the package e2fsprogs";

// The one that is there. kCorrupt when it is not a file of whole sectors, kNotFound.
Result<RootDisk> open_root_disk(const std::string& path);

// The file that a disk of a snapshot is copied to (by the worker, since it can take long): all
// holes, without a name, gone with its last descriptor. It lies beside the disk, in the folder
// `snapshot`, where it can share its blocks, or in `folder` when that is not possible there.
Result<UniqueFd> unnamed_root_disk(std::uint64_t bytes, const std::string& snapshot,
                                   const std::string& folder);

// What a file takes on the host's disk, in bytes; nothing when there is none.
std::uint64_t bytes_on_disk(const std::string& path);

}  // namespace sm
