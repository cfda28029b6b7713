// Writing OCI layouts for tests.
#include "oci/testing/image_builder.h"

#include <zlib.h>
#include <zstd.h>

#include <filesystem>
#include <fstream>

#include "base/bytes.h"
#include "base/check.h"

namespace sm::testing {

std::string gzip(std::string_view data) {
  z_stream zlib{};
  SM_CHECK(deflateInit2(&zlib, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&zlib, data.size()) + 64, '\0');
  zlib.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  zlib.avail_in = static_cast<uInt>(data.size());
  zlib.next_out = reinterpret_cast<Bytef*>(out.data());
  zlib.avail_out = static_cast<uInt>(out.size());
  SM_CHECK(deflate(&zlib, Z_FINISH) == Z_STREAM_END);
  out.resize(out.size() - zlib.avail_out);
  deflateEnd(&zlib);
  return out;
}

std::string zstd(std::string_view data) {
  std::string out(ZSTD_compressBound(data.size()), '\0');
  const auto size = ZSTD_compress(out.data(), out.size(), data.data(), data.size(), 3);
  SM_CHECK(ZSTD_isError(size) == 0);
  out.resize(size);
  return out;
}

std::string pack(std::string_view data, Compression compression) {
  switch (compression) {
    case Compression::kGzip:
      return gzip(data);
    case Compression::kZstd:
      return zstd(data);
    case Compression::kNone:
      break;
  }
  return std::string(data);
}

void write_file(const std::string& path, std::string_view data) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(data.data(), static_cast<std::streamsize>(data.size()));
  SM_CHECK(out.good());
}

ImageBuilder::ImageBuilder(std::string folder) : folder_(std::move(folder)) {
  std::filesystem::create_directories(folder_ + "/blobs/sha256");
  write_file(folder_ + "/oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
  config = {{"architecture", "amd64"},
            {"os", "linux"},
            {"config", {{"Cmd", {"/bin/sh"}}}},
            {"rootfs", {{"type", "layers"}, {"diff_ids", Json::array()}}}};
  manifest = {{"schemaVersion", 2},
              {"mediaType", "application/vnd.oci.image.manifest.v1+json"},
              {"layers", Json::array()}};
  index = {{"schemaVersion", 2}};
}

ImageBuilder::Json ImageBuilder::blob(std::string_view data, std::string_view media_type) {
  const auto digest = Hasher::of(as_byte_span(data));
  write_file(folder_ + "/blobs/sha256/" + digest.hex(), data);
  return {{"mediaType", media_type}, {"digest", digest.text()}, {"size", data.size()}};
}

std::string ImageBuilder::blob_path(const Json& descriptor) const {
  const auto digest = Digest::parse(descriptor.at("digest").get<std::string>());
  SM_CHECK(digest.has_value());
  return folder_ + "/blobs/sha256/" + digest->hex();
}

ImageBuilder& ImageBuilder::layer(std::string_view tar, Compression compression) {
  std::string type = "application/vnd.oci.image.layer.v1.tar";
  if (compression == Compression::kGzip) type += "+gzip";
  if (compression == Compression::kZstd) type += "+zstd";
  manifest["layers"].push_back(blob(pack(tar, compression), type));
  config["rootfs"]["diff_ids"].push_back(Hasher::of(as_byte_span(tar)).text());
  return *this;
}

ImageBuilder& ImageBuilder::run_config(Json value) {
  config["config"] = std::move(value);
  return *this;
}

ImageBuilder::Json ImageBuilder::describe() {
  if (!manifest.contains("config")) {
    manifest["config"] = blob(config.dump(), "application/vnd.oci.image.config.v1+json");
  }
  return blob(manifest.dump(), "application/vnd.oci.image.manifest.v1+json");
}

void ImageBuilder::write(std::string_view tag) {
  auto entry = describe();
  entry["annotations"] = {{"org.opencontainers.image.ref.name", tag}};
  write_index({std::move(entry)});
}

void ImageBuilder::write_index(std::vector<Json> manifests) {
  index["manifests"] = std::move(manifests);
  write_file(folder_ + "/index.json", index.dump());
}

}  // namespace sm::testing
