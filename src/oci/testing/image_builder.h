// ImageBuilder: OCI layouts on disk for tests, correct unless told otherwise.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "oci/digest.h"
#include "oci/manifest.h"

namespace sm::testing {

std::string gzip(std::string_view data);
std::string zstd(std::string_view data);
std::string pack(std::string_view data, Compression compression);

void write_file(const std::string& path, std::string_view data);

class ImageBuilder {
 public:
  using Json = nlohmann::json;

  // Writes below `folder`, which must exist.
  explicit ImageBuilder(std::string folder);

  // Stores a blob and describes it.
  Json blob(std::string_view data, std::string_view media_type);
  std::string blob_path(const Json& descriptor) const;
  // Adds a layer to the image that is being built.
  ImageBuilder& layer(std::string_view tar, Compression compression = Compression::kGzip);
  // What is in the "config" object of the configuration.
  ImageBuilder& run_config(Json config);

  // Parts that a test may change before write().
  Json config;    // the configuration document
  Json manifest;  // config and layers are filled in by describe()
  Json index;     // manifests are filled in by write()

  // Stores configuration and manifest; the manifest's descriptor.
  Json describe();
  // Stores everything, with the image under `tag`.
  void write(std::string_view tag = "latest");
  // Stores an index of these manifests.
  void write_index(std::vector<Json> manifests);

  std::string reference() const { return "oci:" + folder_; }
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
};

}  // namespace sm::testing
