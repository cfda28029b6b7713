// Manifest and Index: the documents of an OCI image (and Docker's schema 2 twins) as values, with
// the platform choice. Pure functions of bytes. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/digest.h"

namespace sm {

// Limits of the documents, in bytes and items. Registries refuse manifests above 4 MiB as well.
constexpr std::uint64_t kMaxManifestBytes = 4U << 20U;
constexpr std::uint64_t kMaxConfigBytes = 8U << 20U;
constexpr std::size_t kMaxIndexEntries = 4096;
constexpr std::size_t kMaxLayers = 1024;

struct Platform {
  std::string os = "linux";
  std::string architecture = "amd64";
  std::string variant;  // empty: the architecture's baseline

  std::string text() const;
  bool operator==(const Platform&) const = default;
};

// How the bytes of a layer blob are packed.
enum class Compression : std::uint8_t { kNone, kGzip, kZstd };
std::string_view compression_name(Compression compression);

struct Descriptor {
  std::string media_type;  // empty: not stated
  Digest digest;
  std::uint64_t size = 0;
  std::optional<Platform> platform{};
  std::string name{};        // org.opencontainers.image.ref.name
  std::string full_name{};   // io.containerd.image.name
  bool is_artifact = false;  // an attestation, a signature: nothing to run
};

struct Index {
  std::vector<Descriptor> manifests;
};

struct LayerDescriptor {
  Descriptor blob;
  Compression compression = Compression::kNone;
};

struct Manifest {
  Descriptor config;
  std::vector<LayerDescriptor> layers{};  // base first
};

enum class DocumentKind : std::uint8_t { kIndex, kManifest };

// What a document is, from the media type of its descriptor or else from its own fields.
Result<DocumentKind> document_kind(std::string_view media_type, std::string_view text);

Result<Index> parse_index(std::string_view text);
Result<Manifest> parse_manifest(std::string_view text);

// The entry for a platform. Entries for nothing runnable (attestations) never match; an entry that
// names no platform matches only when no other entry does.
Result<Descriptor> choose_platform(const Index& index, const Platform& wanted);

}  // namespace sm
