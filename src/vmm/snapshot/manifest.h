// SnapshotManifest: manifest.json of a snapshot, what one may know of it without reading the rest.
// Written by us and read from hostile disks. See docs/reference/snapshot-format.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sm {

inline constexpr std::uint32_t kSnapshotFormat = 1;

// Limits of what decode_manifest takes.
inline constexpr std::size_t kMaxSnapshotManifestBytes = 1u << 20;
inline constexpr std::size_t kMaxManifestText = 4096;  // of each text that is not an annotation
inline constexpr std::size_t kMaxAnnotations = 256;
inline constexpr std::size_t kMaxAnnotationBytes = 64u << 10;
inline constexpr std::uint64_t kMaxSnapshotMemory = 1ull << 40;
inline constexpr std::uint64_t kMaxSnapshotDisk = 1ull << 40;

// One virtio device, in slot order. A restore has to bring the same ones.
struct SnapshotDevice {
  std::string type;         // "rng", "vsock", "blk"
  std::string serial;       // blk: how the guest finds it
  std::uint64_t bytes = 0;  // blk: capacity; 0 = nothing bound
  bool read_only = false;
  bool operator==(const SnapshotDevice&) const = default;
};

// For a snapshot that holds only the pages that differ from another one's.
struct SnapshotBase {
  std::string path;  // of the base's directory, absolute
  std::string
      memory_digest;  // base's SnapshotManifest::memory_digest: a base that was replaced is refused
  bool operator==(const SnapshotBase&) const = default;
};

// The content of the disk that the guest can write to, which the snapshot holds in disk.img. One of
// the devices is this disk.
struct SnapshotDisk {
  std::string serial;
  std::uint64_t bytes = 0;  // a multiple of 4096
  bool operator==(const SnapshotDisk&) const = default;
};

struct SnapshotManifest {
  std::uint32_t format = kSnapshotFormat;
  std::string program;        // version of the program that wrote it, for people
  std::string engine;         // "kvm", "soft": which one saved it
  std::string cpu_model;      // "host", "x86-64-v2"
  std::string cpu_signature;  // "host" model: what must match on the restoring machine; empty for
                              // portable models
  std::string kernel_digest;  // "sha256:..." of the guest kernel image
  std::string initramfs_digest;  // of init and agent
  std::uint64_t memory_bytes = 0;
  std::uint32_t vcpus = 0;
  std::vector<SnapshotDevice> devices;
  // Saved before the machine had an image: its empty disks are to be bound when it goes on.
  bool awaits_image = false;
  std::int64_t created_unix_ns = 0;
  std::uint64_t state_bytes = 0;
  std::uint32_t state_crc = 0;  // CRC-32C of the whole state.bin
  // Identifies the memory contents: random 128 bits as hex, new with every capture. (A digest of
  // the bytes would cost a read of all memory at each capture and restore.)
  std::string memory_digest;
  std::optional<SnapshotBase> base;
  std::optional<SnapshotDisk> disk;
  std::map<std::string, std::string>
      annotations;  // of the layers above: image digest, fingerprint, ...
  bool operator==(const SnapshotManifest&) const = default;
};

// Texts that are not UTF-8 are altered, so they do not come back.
std::string encode_manifest(const SnapshotManifest& manifest);
// kCorrupt, kLimit, or kUnsupported: for another format version, naming both, and for a key that
// this version does not know, since it may say something that a restore must not overlook. Only
// annotations are free.
Result<SnapshotManifest> decode_manifest(std::string_view text);

}  // namespace sm
