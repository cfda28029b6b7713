// Reading archives into the store. Nothing of an archive is believed: blobs are verified, documents
// parsed with limits, and names set last.
#include <algorithm>

#include "base/bytes.h"
#include "oci/docker_archive.h"
#include "oci/json.h"
#include "oci/store/archive.h"
#include "oci/store/blob_writer.h"
#include "oci/text.h"

namespace sm {
namespace {

constexpr int kMaxIndexDepth = 4;
constexpr std::uint64_t kMaxLayerBytes = 64ULL << 30U;
constexpr const char* kManifestType = "application/vnd.oci.image.manifest.v1+json";
constexpr const char* kConfigType = "application/vnd.oci.image.config.v1+json";

std::string blob_name(const Digest& digest) {
  return "blobs/" + std::string(digest.algorithm_name()) + "/" + digest.hex();
}

Status copy(ByteStream& from, BlobWriter& to) {
  std::vector<std::byte> buffer(1U << 20U);
  while (true) {
    const auto got = SM_TRY(from.read(buffer));
    if (got == 0) return {};
    SM_TRY_STATUS(to.append(std::span(buffer).first(got)));
  }
}

class Loader {
 public:
  Loader(const ImageStore& store, const BlobStore& archive) : store_(store), archive_(archive) {}

  Result<std::vector<LoadedName>> load_oci(std::string_view index_text) {
    std::vector<LoadedName> out;
    const auto index = SM_TRY(parse_index(index_text));
    for (const auto& entry : index.manifests) {
      if (entry.is_artifact) continue;
      SM_TRY_STATUS(copy_document(entry, 0));
      out.push_back(SM_TRY(finish(entry.full_name.empty() ? entry.name : entry.full_name, entry)));
    }
    return out;
  }

  Result<std::vector<LoadedName>> load_docker(std::string_view manifest_text) {
    std::vector<LoadedName> out;
    for (const auto& image : SM_TRY(parse_docker_manifest(manifest_text))) {
      const auto target = SM_TRY(make_manifest(image));
      if (image.repo_tags.empty()) out.push_back(SM_TRY(finish("", target)));
      for (const auto& name : image.repo_tags) out.push_back(SM_TRY(finish(name, target)));
    }
    return out;
  }

 private:
  Status copy_blob(const Descriptor& blob, std::uint64_t limit) {
    if (blob.size > limit) {
      return fail(Code::kLimit, "blob " + blob.digest.text() + " has " + std::to_string(blob.size) +
                                    " bytes; the limit is " + std::to_string(limit));
    }
    auto writer = SM_TRY(BlobWriter::open(store_.root(), {blob.digest, blob.size}));
    if (!writer) return {};
    SM_TRY_STATUS(writer->restart());
    const auto found = SM_TRY(archive_.open(blob_name(blob.digest)));
    SM_TRY_STATUS(copy(*found.stream, *writer));
    SM_TRY(writer->commit());
    return {};
  }

  Result<std::string> read_blob(const Descriptor& blob) {
    auto found = SM_TRY(store_.blobs()->open(blob_name(blob.digest)));
    return read_stream(*found.stream, kMaxManifestBytes, "a manifest");
  }

  // A manifest or an index with all below it. Of an index, archives may hold some variants only.
  Status copy_document(const Descriptor& document, int depth) {
    if (depth > kMaxIndexDepth) return fail(Code::kLimit, "the image index nests too deep");
    SM_TRY_STATUS(copy_blob(document, kMaxManifestBytes));
    const auto text = SM_TRY(read_blob(document));
    if (SM_TRY(document_kind(document.media_type, text)) == DocumentKind::kManifest) {
      const auto manifest = SM_TRY(parse_manifest(text));
      SM_TRY_STATUS(copy_blob(manifest.config, kMaxConfigBytes));
      for (const auto& layer : manifest.layers)
        SM_TRY_STATUS(copy_blob(layer.blob, kMaxLayerBytes));
      return {};
    }
    const auto index = SM_TRY(parse_index(text));
    for (const auto& child : index.manifests) {
      if (child.is_artifact || !archive_.open(blob_name(child.digest))) continue;
      SM_TRY_STATUS(copy_document(child, depth + 1));
    }
    return {};
  }

  // A manifest for an image of Docker's format, which has none.
  Result<Descriptor> make_manifest(const DockerImage& image) {
    auto config_blob = SM_TRY(archive_.open(image.config));
    const auto config_text =
        SM_TRY(read_stream(*config_blob.stream, kMaxConfigBytes, printable(image.config)));
    SM_TRY(parse_image_config(config_text));
    const auto config = SM_TRY(store_.put_document(config_text, kConfigType));
    Json layers = Json::array();
    for (const auto& name : image.layers) {
      auto blob = SM_TRY_WITH(archive_.open(name), "layer " + printable(name));
      auto [compression, stream] = SM_TRY(sniff_compression(std::move(blob.stream)));
      auto writer = SM_TRY(BlobWriter::open_unknown(store_.root(), kMaxLayerBytes));
      SM_TRY_STATUS(copy(*stream, writer));
      const auto done = SM_TRY(writer.commit());
      std::string type = "application/vnd.oci.image.layer.v1.tar";
      if (compression == Compression::kGzip) type += "+gzip";
      if (compression == Compression::kZstd) type += "+zstd";
      layers.push_back({{"mediaType", type}, {"digest", done.digest.text()}, {"size", done.size}});
    }
    const Json manifest = {
        {"schemaVersion", 2},
        {"mediaType", kManifestType},
        {"config",
         {{"mediaType", kConfigType}, {"digest", config.digest.text()}, {"size", config.size}}},
        {"layers", std::move(layers)}};
    return store_.put_document(dump_json(manifest), kManifestType);
  }

  // The image is checked like any that is run, then named.
  Result<LoadedName> finish(const std::string& name, const Descriptor& target) {
    const auto parsed = parse_image_name(name);
    const auto full = parsed ? parsed->text() : std::string();
    const auto image = SM_TRY(store_.open_image({full, target}, std::nullopt));
    SM_TRY_STATUS(store_.set(full, target));
    return LoadedName{full, image.id()};
  }

  const ImageStore& store_;
  const BlobStore& archive_;
};

}  // namespace

Result<std::vector<LoadedName>> load_images(const ImageStore& store, const std::string& path) {
  const auto lease = SM_TRY(store.lease());
  const auto archive = SM_TRY(archive_store(path));
  Loader loader(store, *archive);
  const auto read = [&](const char* name) -> Result<std::string> {
    auto blob = SM_TRY(archive->open(name));
    return read_stream(*blob.stream, kMaxManifestBytes, name);
  };
  auto index = read("index.json");
  if (index) return loader.load_oci(*index);
  if (index.error().code() != Code::kNotFound) return fail(std::move(index).error());
  auto manifest = read("manifest.json");
  if (manifest) return loader.load_docker(*manifest);
  if (manifest.error().code() != Code::kNotFound) return fail(std::move(manifest).error());
  return fail(Code::kCorrupt, "the archive has neither an index.json nor a manifest.json",
              "give a file that `docker save`, `podman save` or `skopeo copy` wrote");
}

}  // namespace sm
