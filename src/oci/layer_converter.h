// From tar streams to one squashfs image: the tree's rules, the data and the limits together. Knows
// nothing of images, caches or digests. One thread per call.
#pragma once

#include <cstdint>
#include <span>
#include <stop_token>
#include <string>

#include "base/result.h"
#include "oci/byte_stream.h"
#include "oci/layer_tree.h"
#include "oci/squashfs_writer.h"

namespace sm {

// The uncompressed tar stream of one layer. It is read to its end, so that a verifying stream has
// the last word.
struct LayerInput {
  ByteStream& stream;
  std::string name;  // "layer sha256:...", for errors
};

struct ConvertOptions {
  LayerTree::Position position = LayerTree::Position::kBase;
  TreeLimits tree;
  SquashfsOptions squashfs;
  // Sum of the file sizes of all layers, holes included.
  std::uint64_t max_file_bytes = 64ULL << 30U;
  // Looked at between entries and in long holes; a stop request ends it with Code::kGone.
  std::stop_token stop{};
};

struct ConvertResult {
  std::uint64_t image_size = 0;
  TreeNotes notes;
  // The layer hides all layers below it.
  bool hides_lower_layers = false;
};

// Writes the layers, base first and merged into one, to `fd` (an empty regular file). Errors name
// the layer and the entry.
Result<ConvertResult> convert_layers(std::span<LayerInput> layers, int fd,
                                     const ConvertOptions& options);

}  // namespace sm
