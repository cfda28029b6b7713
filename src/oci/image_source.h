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

  const ImageConfig& config() const { return config_; }
  const std::vector<ImageLayer>& layers() const { return layers_; }  // base first
  // The digest of the configuration: names the image's content.
  const Digest& id() const { return id_; }

  // The uncompressed tar stream of a layer. Its end is an error unless blob and content match their
  // digests. `counter`, when given, sees the bytes of the blob go by.
  using ReadCounter = std::function<Status(std::uint64_t bytes)>;
  Result<ByteStreamPtr> open_layer(std::size_t index, std::uint64_t limit,
                                   ReadCounter counter = {}) const;

 private:
  ImageSource(std::shared_ptr<const BlobStore> store, ImageConfig config,
              std::vector<ImageLayer> layers, Digest id)
      : store_(std::move(store)),
        config_(std::move(config)),
        layers_(std::move(layers)),
        id_(std::move(id)) {}
  static Result<ImageSource> from_layout(std::shared_ptr<const BlobStore> store,
                                         const ImageReference& reference, const Platform& wanted);
  static Result<ImageSource> from_docker(std::shared_ptr<const BlobStore> store,
                                         const ImageReference& reference, const Platform& wanted);
  static Result<ImageSource> from_manifest(std::shared_ptr<const BlobStore> store,
                                           std::string_view text, const Platform& wanted);

  std::shared_ptr<const BlobStore> store_;
  ImageConfig config_;
  std::vector<ImageLayer> layers_;
  Digest id_;
};

}  // namespace sm
