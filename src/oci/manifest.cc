// Parsing of indexes and manifests; the choice among platforms.
#include "oci/manifest.h"

#include <algorithm>
#include <array>
#include <utility>

#include "oci/json.h"
#include "oci/text.h"

namespace sm {
namespace {

constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
constexpr std::string_view kDockerIndex =
    "application/vnd.docker.distribution.manifest.list.v2+json";
constexpr std::string_view kDockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
constexpr std::string_view kOciConfig = "application/vnd.oci.image.config.v1+json";
constexpr std::string_view kDockerConfig = "application/vnd.docker.container.image.v1+json";

struct LayerType {
  std::string_view media_type;
  Compression compression;
};
constexpr std::array kLayerTypes = {
    LayerType{"application/vnd.oci.image.layer.v1.tar", Compression::kNone},
    LayerType{"application/vnd.oci.image.layer.v1.tar+gzip", Compression::kGzip},
    LayerType{"application/vnd.oci.image.layer.v1.tar+zstd", Compression::kZstd},
    LayerType{"application/vnd.oci.image.layer.nondistributable.v1.tar", Compression::kNone},
    LayerType{"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Compression::kGzip},
    LayerType{"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Compression::kZstd},
    LayerType{"application/vnd.docker.image.rootfs.diff.tar", Compression::kNone},
    LayerType{"application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::kGzip},
    LayerType{"application/vnd.docker.image.rootfs.diff.tar.zstd", Compression::kZstd},
    LayerType{"application/vnd.docker.image.rootfs.foreign.diff.tar", Compression::kNone},
    LayerType{"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Compression::kGzip},
};

constexpr std::string_view kRemedyMediaType =
    "use an image in OCI or Docker schema 2 format with plain, gzip or zstd layers";

Result<std::optional<Platform>> parse_platform(const Json& entry) {
  const Json* field = json_field(entry, "platform");
  if (field == nullptr) return std::optional<Platform>();
  constexpr std::string_view kWhat = "a platform";
  if (!field->is_object()) return fail(Code::kCorrupt, "a platform is not a JSON object");
  Platform platform;
  platform.os = SM_TRY(json_text(*field, "os", kWhat));
  platform.architecture = SM_TRY(json_text(*field, "architecture", kWhat));
  platform.variant = SM_TRY(json_text(*field, "variant", kWhat));
  return std::optional<Platform>(std::move(platform));
}

Status read_annotations(const Json& entry, Descriptor& out) {
  const Json* field = json_field(entry, "annotations");
  if (field == nullptr) return {};
  constexpr std::string_view kWhat = "the annotations of a descriptor";
  if (!field->is_object())
    return fail(Code::kCorrupt, std::string(kWhat) + " are not a JSON object");
  out.name = SM_TRY(json_text(*field, "org.opencontainers.image.ref.name", kWhat));
  out.full_name = SM_TRY(json_text(*field, "io.containerd.image.name", kWhat));
  const auto kind = SM_TRY(json_text(*field, "vnd.docker.reference.type", kWhat));
  out.is_artifact = kind == "attestation-manifest";
  return {};
}

Result<Descriptor> parse_descriptor(const Json& entry, std::string_view what) {
  if (!entry.is_object()) return fail(Code::kCorrupt, std::string(what) + " is not a JSON object");
  // Not within the braces below: leaving an initializer early leaks what is built already.
  const auto digest_text = SM_TRY(json_text(entry, "digest", what));
  auto media_type = SM_TRY(json_text(entry, "mediaType", what));
  auto digest = SM_TRY_WITH(Digest::parse(digest_text), what);
  Descriptor out{.media_type = std::move(media_type), .digest = std::move(digest)};
  if (json_field(entry, "size") == nullptr) {
    return fail(Code::kCorrupt, std::string(what) + " states no size");
  }
  out.size = SM_TRY(json_unsigned(entry, "size", what, 0));
  out.platform = SM_TRY(parse_platform(entry));
  SM_TRY_STATUS(read_annotations(entry, out));
  const auto artifact_type = SM_TRY(json_text(entry, "artifactType", what));
  const bool no_platform = out.platform && out.platform->os == "unknown";
  out.is_artifact = out.is_artifact || no_platform || !artifact_type.empty();
  return out;
}

Result<LayerDescriptor> parse_layer(const Json& entry, std::size_t number) {
  const auto what = "layer " + std::to_string(number) + " of the manifest";
  auto blob = SM_TRY(parse_descriptor(entry, what));
  for (const auto& row : kLayerTypes) {
    if (row.media_type == blob.media_type) return LayerDescriptor{std::move(blob), row.compression};
  }
  return fail(Code::kUnsupported,
              "layer " + blob.digest.text() + " has the unknown media type \"" +
                  printable(blob.media_type) + "\"",
              std::string(kRemedyMediaType));
}

// How well an entry fits; less is better.
std::optional<int> platform_rank(const Platform& entry, const Platform& wanted) {
  if (entry.os != wanted.os || entry.architecture != wanted.architecture) return std::nullopt;
  if (entry.variant == wanted.variant) return 0;
  // Levels of amd64 contain the lower ones; the baseline is written "" or "v1".
  const auto level = [](const std::string& variant) -> std::optional<int> {
    if (variant.empty()) return 1;
    if (variant.size() == 2 && variant[0] == 'v' && variant[1] >= '1' && variant[1] <= '4') {
      return variant[1] - '0';
    }
    return std::nullopt;
  };
  const auto have = level(entry.variant);
  const auto limit = level(wanted.variant);
  if (!have || !limit || *have > *limit) return std::nullopt;
  return 1 + *limit - *have;
}

std::string platform_list(const Index& index) {
  std::string out;
  for (const auto& entry : index.manifests) {
    if (!entry.platform || entry.is_artifact) continue;
    if (out.size() > 300) return out + ", ...";
    out += (out.empty() ? "" : ", ") + printable(entry.platform->text(), 60);
  }
  return out.empty() ? "no platform at all" : out;
}

}  // namespace

std::string Platform::text() const {
  return os + "/" + architecture + (variant.empty() ? "" : "/" + variant);
}

std::string_view compression_name(Compression compression) {
  switch (compression) {
    case Compression::kNone:
      return "plain tar";
    case Compression::kGzip:
      return "gzip";
    case Compression::kZstd:
      return "zstd";
  }
  return "?";
}

Result<DocumentKind> document_kind(std::string_view media_type, std::string_view text) {
  std::string stated(media_type);
  const auto json = SM_TRY(parse_json_object(text, "the image document"));
  if (stated.empty()) stated = SM_TRY(json_text(json, "mediaType", "the image document"));
  if (stated == kOciIndex || stated == kDockerIndex) return DocumentKind::kIndex;
  if (stated == kOciManifest || stated == kDockerManifest) return DocumentKind::kManifest;
  if (!stated.empty()) {
    return fail(Code::kUnsupported,
                "the image document has the unknown media type \"" + printable(stated) + "\"",
                std::string(kRemedyMediaType));
  }
  if (json_field(json, "manifests") != nullptr) return DocumentKind::kIndex;
  if (json_field(json, "layers") != nullptr) return DocumentKind::kManifest;
  return fail(Code::kCorrupt, "the image document is neither an index nor a manifest");
}

Result<Index> parse_index(std::string_view text) {
  const auto json = SM_TRY(parse_json_object(text, "the image index"));
  const Json* manifests = json_field(json, "manifests");
  if (manifests == nullptr || !manifests->is_array()) {
    return fail(Code::kCorrupt, "the image index has no list of manifests");
  }
  if (manifests->size() > kMaxIndexEntries) {
    return fail(Code::kLimit, "the image index has " + std::to_string(manifests->size()) +
                                  " entries; the limit is " + std::to_string(kMaxIndexEntries));
  }
  Index index;
  index.manifests.reserve(manifests->size());
  for (const auto& entry : *manifests) {
    index.manifests.push_back(SM_TRY(parse_descriptor(entry, "an entry of the image index")));
  }
  return index;
}

Result<Manifest> parse_manifest(std::string_view text) {
  const auto json = SM_TRY(parse_json_object(text, "the manifest"));
  const auto version = SM_TRY(json_unsigned(json, "schemaVersion", "the manifest", 2));
  if (version != 2) {
    return fail(Code::kUnsupported,
                "the manifest has schema version " + std::to_string(version) + "; only 2 is known",
                std::string(kRemedyMediaType));
  }
  const Json* config = json_field(json, "config");
  if (config == nullptr) return fail(Code::kCorrupt, "the manifest names no image configuration");
  Manifest manifest{.config = SM_TRY(parse_descriptor(*config, "the config of the manifest"))};
  const auto& type = manifest.config.media_type;
  if (type != kOciConfig && type != kDockerConfig) {
    return fail(Code::kUnsupported,
                "the image configuration has the unknown media type \"" + printable(type) + "\"",
                "this looks like an artifact that is no runnable image");
  }
  const Json* layers = json_field(json, "layers");
  if (layers == nullptr || !layers->is_array()) {
    return fail(Code::kCorrupt, "the manifest has no list of layers");
  }
  if (layers->size() > kMaxLayers) {
    return fail(Code::kLimit, "the manifest has " + std::to_string(layers->size()) +
                                  " layers; the limit is " + std::to_string(kMaxLayers));
  }
  manifest.layers.reserve(layers->size());
  for (const auto& entry : *layers) {
    manifest.layers.push_back(SM_TRY(parse_layer(entry, manifest.layers.size() + 1)));
  }
  return manifest;
}

Result<Descriptor> choose_platform(const Index& index, const Platform& wanted) {
  const Descriptor* best = nullptr;
  int best_rank = 0;
  for (const auto& entry : index.manifests) {
    if (!entry.platform || entry.is_artifact) continue;
    const auto rank = platform_rank(*entry.platform, wanted);
    if (rank && (best == nullptr || *rank < best_rank)) {
      best = &entry;
      best_rank = *rank;
    }
  }
  if (best != nullptr) return *best;
  const auto bare = [](const Descriptor& entry) { return !entry.platform && !entry.is_artifact; };
  const auto first = std::find_if(index.manifests.begin(), index.manifests.end(), bare);
  if (first != index.manifests.end()) return *first;
  return fail(Code::kUnsupported,
              "the image has no variant for " + wanted.text() + "; it has " + platform_list(index),
              "use an image that was built for " + wanted.text());
}

}  // namespace sm
