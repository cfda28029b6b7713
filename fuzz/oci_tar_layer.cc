// Hostile layers: tar bytes through the tree into a squashfs image, which must then be readable.
// Byte 0 says whether the layer is a base; bytes 1 and 2 where a second layer begins (0: there is
// none).
#include <fcntl.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/file.h"
#include "oci/layer_converter.h"
#include "oci/testing/squashfs_contents.h"
#include "oci/testing/text_stream.h"
#include "oci_tar_mutator.h"

namespace {

constexpr std::size_t kPrefix = 3;

sm::ConvertOptions tiny_limits(bool base) {
  sm::ConvertOptions options;
  options.position = base ? sm::LayerTree::Position::kBase : sm::LayerTree::Position::kAbove;
  options.tree.max_names = 2000;
  options.tree.max_xattr_bytes = 64U << 10U;
  options.max_file_bytes = 4U << 20U;
  options.squashfs.keep_free = 0;
  return options;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned) {
  return sm::fuzz::mutate_tar(data, size, max_size, kPrefix);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kPrefix) return 0;
  std::string tar(reinterpret_cast<const char*>(data) + kPrefix, size - kPrefix);
  const auto split = (data[1] | std::size_t{data[2]} << 8U) * sm::fuzz::kTarBlock;
  std::deque<sm::testing::TextStream> streams;
  if (split > 0 && split < tar.size()) {
    streams.emplace_back(tar.substr(0, split));
    streams.emplace_back(tar.substr(split));
  } else {
    streams.emplace_back(std::move(tar));
  }
  std::vector<sm::LayerInput> layers;
  for (auto& stream : streams) layers.push_back({stream, "layer"});

  auto image = sm::memory_file("image", {});
  SM_CHECK(image.has_value());
  const auto result = sm::convert_layers(layers, image->get(), tiny_limits((data[0] & 1U) != 0));
  if (!result) {
    SM_CHECK(result.error().code() != sm::Code::kInternal);
    return 0;
  }
  const auto contents = sm::testing::read_squashfs("/proc/self/fd/" + std::to_string(image->get()));
  SM_CHECK(contents.contains(""));
  for (const auto& [path, item] : contents) SM_CHECK(path.find("/../") == std::string::npos);
  return 0;
}
