// ImageSource: one image of a local store, resolved down to its configuration and layers. Opening
// reads and verifies the small documents; layers are read on demand. Immutable after open(); any
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "oci/blob_store.h"
#include "oci/digest.h"
#include "oci/image_config.h"
#include "oci/manifest.h"
#include "oci/reference.h"

namespace sm {

struct ImageLayer {
  Digest diff_id;                          // of the uncompressed tar stream
  std::optional<Digest> digest;            // of the blob; archives of Docker state none
  std::string media_type;                  // empty when the store states none
  std::optional<Compression> compression;  // nothing: found out when read
  std::uint64_t size = 0;                  // of the blob
  std::string blob;                        // its name in the store

  // "layer sha256:...", for messages.
  std::string name() const;
};

class ImageSource {
 public:
  static Result<ImageSource> open(const ImageReference& reference,
                                  const Platform& wanted = Platform{});

  // The image that a manifest or an index of `store` stands for.
  static Result<ImageSource> open(std::shared_ptr<const BlobStore> store, const Descriptor& target,
                                  const Platform& wanted);

  const ImageConfig& config() const { return config_; }
  const std::vector<ImageLayer>& layers() const { return layers_; }  // base first
  // The digest of the configuration: names the image's content.
  const Digest& id() const { return id_; }

  // The manifest and its text; nothing for archives of Docker, which have none.
  const std::optional<Descriptor>& manifest() const { return manifest_; }
  // The configuration's text as it stands in the store.
  const std::string& config_text() const { return config_text_; }
  // The blob of a layer as it is packed, not verified.
  Result<Blob> open_blob(std::size_t index) const { return store_->open(layers_[index].blob); }

  // The uncompressed tar stream of a layer. Its end is an error unless blob and content match their
  // digests. `counter`, when given, sees the bytes of the blob go by.
  using ReadCounter = std::function<Status(std::uint64_t bytes)>;
  Result<ByteStreamPtr> open_layer(std::size_t index, std::uint64_t limit,
                                   ReadCounter counter = {}) const;

 private:
  ImageSource(std::shared_ptr<const BlobStore> store, ImageConfig config, std::string config_text,
              std::vector<ImageLayer> layers, Digest id)
      : store_(std::move(store)),
        config_(std::move(config)),
        config_text_(std::move(config_text)),
        layers_(std::move(layers)),
        id_(std::move(id)) {}
  static Result<ImageSource> from_layout(std::shared_ptr<const BlobStore> store,
                                         const ImageReference& reference, const Platform& wanted);
  static Result<ImageSource> from_index(std::shared_ptr<const BlobStore> store, Index index,
                                        const Platform& wanted);
  static Result<ImageSource> from_docker(std::shared_ptr<const BlobStore> store,
                                         const ImageReference& reference, const Platform& wanted);
  static Result<ImageSource> from_manifest(std::shared_ptr<const BlobStore> store,
                                           std::string_view text, const Platform& wanted);

  std::shared_ptr<const BlobStore> store_;
  ImageConfig config_;
  std::string config_text_;
  std::optional<Descriptor> manifest_;
  std::vector<ImageLayer> layers_;
  Digest id_;
};

}  // namespace sm
