// Resolving a reference to an image, and opening its layers.
#include "oci/image_source.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "oci/docker_archive.h"
#include "oci/text.h"

namespace sm {
namespace {

// Limit: an index of indexes is the deepest that tools write; four is generous.
constexpr int kMaxIndexDepth = 4;

std::string blob_name(const Digest& digest) {
  return "blobs/" + std::string(digest.algorithm_name()) + "/" + digest.hex();
}

Result<std::string> read_document(const BlobStore& store, const std::string& name,
                                  std::uint64_t limit) {
  auto blob = SM_TRY(store.open(name));
  return read_stream(*blob.stream, limit, printable(name));
}

// The document a descriptor names, verified.
Result<std::string> read_described(const BlobStore& store, const Descriptor& descriptor,
                                   std::uint64_t limit, std::string_view what) {
  const auto name = std::string(what) + " " + descriptor.digest.text();
  if (descriptor.size > limit) {
    return fail(Code::kLimit, name + " has " + std::to_string(descriptor.size) +
                                  " bytes; the limit is " + std::to_string(limit));
  }
  auto blob = SM_TRY(store.open(blob_name(descriptor.digest)));
  auto stream = verified_stream(std::move(blob.stream), descriptor.digest, descriptor.size, name);
  return read_stream(*stream, limit, name);
}

std::string known_names(const Index& index) {
  std::string out;
  for (const auto& entry : index.manifests) {
    const auto& name = entry.name.empty() ? entry.full_name : entry.name;
    if (name.empty() || entry.is_artifact) continue;
    if (out.size() > 300) return out + ", ...";
    out += (out.empty() ? "" : ", ") + printable(name, 100);
  }
  return out;
}

// The entries of the top index that the tag selects.
Result<Index> select_tag(const Index& index, const std::string& tag) {
  Index out;
  for (const auto& entry : index.manifests) {
    if (entry.is_artifact) continue;
    if (tag.empty() || entry.name == tag || entry.full_name == tag) out.manifests.push_back(entry);
  }
  const auto names = known_names(index);
  if (out.manifests.empty()) {
    const auto what = tag.empty() ? std::string("the layout holds no image")
                                  : "the layout holds no image named \"" + printable(tag) + "\"";
    return fail(Code::kNotFound, what, names.empty() ? "" : "it has: " + names);
  }
  const auto& first = out.manifests.front();
  const bool same_name =
      std::all_of(out.manifests.begin(), out.manifests.end(), [&](const Descriptor& entry) {
        return entry.name == first.name && entry.full_name == first.full_name;
      });
  const bool same_content =
      std::all_of(out.manifests.begin(), out.manifests.end(),
                  [&](const Descriptor& entry) { return entry.digest == first.digest; });
  if (!same_name && !same_content) {
    return fail(Code::kInvalidArgument, "the layout holds several images",
                "add one of the tags to the reference: " + names);
  }
  return out;
}

Status check_platform(const Platform& actual, const Platform& wanted) {
  // Very old images state neither.
  const bool same_os = actual.os.empty() || actual.os == wanted.os;
  const bool same_cpu = actual.architecture.empty() || actual.architecture == wanted.architecture;
  if (same_os && same_cpu) return {};
  return fail(Code::kUnsupported,
              "the image is for " + printable(actual.text(), 60) + ", not for " + wanted.text(),
              "use an image that was built for " + wanted.text());
}

Status check_layer_count(std::size_t manifest, std::size_t config) {
  if (manifest == config) return {};
  return fail(Code::kCorrupt, "the manifest has " + std::to_string(manifest) +
                                  " layers, the image configuration " + std::to_string(config));
}

// "blobs/sha256/<hex>", the form newer dockers write, states a digest.
std::optional<Digest> blob_digest(std::string_view name) {
  constexpr std::string_view kPrefix = "blobs/sha256/";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  auto digest = Digest::parse("sha256:" + std::string(name.substr(kPrefix.size())));
  return digest ? std::optional(*std::move(digest)) : std::nullopt;
}

// The digest in a configuration's name, in the new or in the old form "<hex>.json".
std::optional<Digest> digest_in_name(std::string_view name) {
  constexpr std::string_view kSuffix = ".json";
  if (!name.ends_with(kSuffix)) return blob_digest(name);
  name.remove_suffix(kSuffix.size());
  auto digest = Digest::parse("sha256:" + std::string(name));
  return digest ? std::optional(*std::move(digest)) : std::nullopt;
}

// A store without its top document may be of the other kind.
Error explain_missing(Error error, const BlobStore& store, std::string_view transport) {
  if (error.code() != Code::kNotFound) return error;
  const bool is_docker = transport == "docker-archive";
  if (!store.open(is_docker ? "index.json" : "manifest.json")) {
    return Error(Code::kNotFound, "there is no image in it: " + error.cause());
  }
  return Error(Code::kInvalidArgument, "it holds an image of another kind",
               is_docker ? "use oci-archive:" : "use docker-archive:");
}

Status check_is_folder(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || S_ISDIR(info.st_mode)) return {};
  return fail(Code::kInvalidArgument, "it is not a folder",
              "use oci-archive: or docker-archive: for a tar file");
}

class CountedStream final : public ByteStream {
 public:
  CountedStream(ByteStreamPtr inner, ImageSource::ReadCounter counter)
      : inner_(std::move(inner)), counter_(std::move(counter)) {}
  Result<std::size_t> read(std::span<std::byte> out) override {
    const auto got = SM_TRY(inner_->read(out));
    if (counter_) SM_TRY_STATUS(counter_(got));
    return got;
  }

 private:
  ByteStreamPtr inner_;
  ImageSource::ReadCounter counter_;
};

// When unpacking fails, looks whether the blob itself is damaged: that explains more.
class ExplainedStream final : public ByteStream {
 public:
  ExplainedStream(ByteStreamPtr inner, ByteStream* blob) : inner_(std::move(inner)), blob_(blob) {}
  Result<std::size_t> read(std::span<std::byte> out) override {
    auto got = inner_->read(out);
    if (got || got.error().code() != Code::kCorrupt) return got;
    auto rest = drain(*blob_);
    if (!rest && rest.error().code() == Code::kCorrupt) return fail(std::move(rest).error());
    return got;
  }

 private:
  ByteStreamPtr inner_;
  ByteStream* blob_;  // inside of inner_
};

}  // namespace

std::string ImageLayer::name() const {
  return "layer " + (digest ? digest->text() : diff_id.text());
}

Result<ImageSource> ImageSource::open(const ImageReference& reference, const Platform& wanted) {
  auto opened = [&]() -> Result<ImageSource> {
    switch (reference.transport) {
      case Transport::kOciLayout:
        SM_TRY_STATUS(check_is_folder(reference.path));
        return from_layout(folder_store(reference.path), reference, wanted);
      case Transport::kOciArchive:
        return from_layout(SM_TRY(archive_store(reference.path)), reference, wanted);
      case Transport::kDockerArchive:
        return from_docker(SM_TRY(archive_store(reference.path)), reference, wanted);
    }
    return fail(Code::kInternal, "unknown transport");
  }();
  if (!opened) return fail(std::move(opened).error().with(printable(reference.text())));
  return opened;
}

Result<ImageSource> ImageSource::from_layout(std::shared_ptr<const BlobStore> store,
                                             const ImageReference& reference,
                                             const Platform& wanted) {
  auto document = read_document(*store, "index.json", kMaxManifestBytes);
  if (!document) return fail(explain_missing(std::move(document).error(), *store, "oci"));
  const auto top = SM_TRY(parse_index(*document));
  return from_index(std::move(store), SM_TRY(select_tag(top, reference.tag)), wanted);
}

Result<ImageSource> ImageSource::open(std::shared_ptr<const BlobStore> store,
                                      const Descriptor& target, const Platform& wanted) {
  auto bare = target;
  bare.platform.reset();
  return from_index(std::move(store), Index{{std::move(bare)}}, wanted);
}

Result<ImageSource> ImageSource::from_index(std::shared_ptr<const BlobStore> store, Index index,
                                            const Platform& wanted) {
  for (int depth = 0; depth < kMaxIndexDepth; ++depth) {
    const auto chosen = index.manifests.size() == 1 && !index.manifests.front().platform
                            ? index.manifests.front()
                            : SM_TRY(choose_platform(index, wanted));
    const auto text = SM_TRY(read_described(*store, chosen, kMaxManifestBytes, "manifest"));
    if (SM_TRY(document_kind(chosen.media_type, text)) == DocumentKind::kManifest) {
      auto image = SM_TRY(from_manifest(std::move(store), text, wanted));
      image.manifest_ = chosen;
      return image;
    }
    index = SM_TRY(parse_index(text));
  }
  return fail(Code::kLimit,
              "the image index nests deeper than " + std::to_string(kMaxIndexDepth) + " levels");
}

Result<ImageSource> ImageSource::from_manifest(std::shared_ptr<const BlobStore> store,
                                               std::string_view text, const Platform& wanted) {
  auto manifest = SM_TRY(parse_manifest(text));
  auto config_text =
      SM_TRY(read_described(*store, manifest.config, kMaxConfigBytes, "image configuration"));
  auto config = SM_TRY(parse_image_config(config_text));
  SM_TRY_STATUS(check_platform(config.platform, wanted));
  SM_TRY_STATUS(check_layer_count(manifest.layers.size(), config.diff_ids.size()));
  std::vector<ImageLayer> layers;
  layers.reserve(manifest.layers.size());
  for (std::size_t i = 0; i < manifest.layers.size(); ++i) {
    auto& layer = manifest.layers[i];
    layers.push_back(ImageLayer{.diff_id = config.diff_ids[i],
                                .digest = layer.blob.digest,
                                .media_type = layer.blob.media_type,
                                .compression = layer.compression,
                                .size = layer.blob.size,
                                .blob = blob_name(layer.blob.digest)});
  }
  return ImageSource(std::move(store), std::move(config), std::move(config_text), std::move(layers),
                     manifest.config.digest);
}

Result<ImageSource> ImageSource::from_docker(std::shared_ptr<const BlobStore> store,
                                             const ImageReference& reference,
                                             const Platform& wanted) {
  constexpr const char* kManifest = "manifest.json";
  auto text = read_document(*store, kManifest, kMaxManifestBytes);
  if (!text) return fail(explain_missing(std::move(text).error(), *store, "docker-archive"));
  const auto images = SM_TRY(parse_docker_manifest(*text));
  const auto image = SM_TRY(choose_docker_image(images, reference.tag));
  auto config_text = SM_TRY(read_document(*store, image.config, kMaxConfigBytes));
  const auto id = Hasher::of(as_byte_span(config_text));
  // The name of the configuration is its digest.
  const auto stated = digest_in_name(image.config);
  if (stated && *stated != id) {
    return fail(Code::kCorrupt, "the image configuration \"" + printable(image.config) +
                                    "\" does not match its digest: it has " + id.text());
  }
  auto config = SM_TRY(parse_image_config(config_text));
  SM_TRY_STATUS(check_platform(config.platform, wanted));
  SM_TRY_STATUS(check_layer_count(image.layers.size(), config.diff_ids.size()));
  std::vector<ImageLayer> layers;
  layers.reserve(image.layers.size());
  for (std::size_t i = 0; i < image.layers.size(); ++i) {
    const auto blob = SM_TRY_WITH(store->open(image.layers[i]), "layer " + std::to_string(i + 1));
    layers.push_back(ImageLayer{.diff_id = config.diff_ids[i],
                                .digest = blob_digest(image.layers[i]),
                                .media_type = {},
                                .compression = std::nullopt,
                                .size = blob.size,
                                .blob = image.layers[i]});
  }
  return ImageSource(std::move(store), std::move(config), std::move(config_text), std::move(layers),
                     id);
}

Result<ByteStreamPtr> ImageSource::open_layer(std::size_t index, std::uint64_t limit,
                                              ReadCounter counter) const {
  const auto& layer = layers_[index];
  auto blob = SM_TRY_WITH(store_->open(layer.blob), layer.name());
  if (blob.size != layer.size) {
    return fail(Code::kCorrupt, layer.name() + ": its blob has " + std::to_string(blob.size) +
                                    " bytes; " + std::to_string(layer.size) + " are stated");
  }
  ByteStreamPtr stream =
      std::make_unique<CountedStream>(std::move(blob.stream), std::move(counter));
  if (layer.digest) {
    stream = verified_stream(std::move(stream), *layer.digest, layer.size, "its blob");
  }
  auto* blob_stream = stream.get();
  auto compression = layer.compression;
  if (!compression) {
    auto sniffed = SM_TRY_WITH(sniff_compression(std::move(stream)), layer.name());
    compression = sniffed.first;
    stream = std::move(sniffed.second);
  }
  stream = SM_TRY(decompressed_stream(std::move(stream), *compression, limit));
  stream = verified_stream(std::move(stream), layer.diff_id, std::nullopt, "its content");
  return ByteStreamPtr(std::make_unique<ExplainedStream>(std::move(stream), blob_stream));
}

}  // namespace sm
