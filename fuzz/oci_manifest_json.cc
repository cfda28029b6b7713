// Hostile indexes and manifests.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "oci/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static_cast<void>(sm::document_kind("", text).has_value());
  if (const auto index = sm::parse_index(text)) {
    for (const auto* architecture : {"amd64", "arm64"}) {
      const auto chosen = sm::choose_platform(*index, {"linux", architecture, "v2"});
      SM_CHECK(!chosen || !chosen->is_artifact);
    }
  }
  if (const auto manifest = sm::parse_manifest(text)) {
    SM_CHECK(manifest->layers.size() <= sm::kMaxLayers);
    // Digests go into paths: nothing but hex may come through.
    for (const auto& layer : manifest->layers) {
      const auto& hex = layer.blob.digest.hex();
      SM_CHECK(hex.find_first_not_of("0123456789abcdef") == std::string_view::npos);
    }
  }
  return 0;
}
