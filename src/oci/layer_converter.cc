// Streaming conversion of layers.
#include "oci/layer_converter.h"

#include <algorithm>
#include <utility>

#include "base/checked.h"
#include "oci/tar_reader.h"
#include "oci/text.h"

namespace sm {
namespace {

// Bytes of a hole between two looks at the stop token.
constexpr std::uint64_t kHolePart = 64U << 20U;

class Converter {
 public:
  Converter(SquashfsWriter& writer, const ConvertOptions& options)
      : writer_(writer), options_(options) {}

  Result<LayerTree> read_layer(LayerInput& input) {
    auto reader = SM_TRY(TarReader::create(input.stream));
    LayerTree tree(options_.tree);
    TarEntry entry;
    while (SM_TRY(reader->next(entry))) {
      auto done = take_entry(*reader, entry, tree);
      if (!done) {
        return fail(std::move(done).error().with("entry \"" + printable(entry.path) + "\""));
      }
    }
    SM_TRY_STATUS(drain(input.stream));
    return tree;
  }

 private:
  Status take_entry(TarReader& reader, const TarEntry& entry, LayerTree& tree) {
    SM_TRY_STATUS(check_stop());
    const auto applied = SM_TRY(tree.apply(entry));
    if (applied.file_node == NodeId::kNone) return {};
    if (entry.size > options_.max_file_bytes - file_bytes_) {
      return fail(Code::kLimit, "with its " + std::to_string(entry.size) +
                                    " bytes the files exceed the limit of " +
                                    std::to_string(options_.max_file_bytes) + " bytes");
    }
    file_bytes_ += entry.size;
    tree.set_file(applied.file_node, SM_TRY(writer_.begin_file()));
    std::uint64_t at = 0;
    TarData data;
    while (SM_TRY(reader.next_data(data))) SM_TRY_STATUS(put_data(entry.size, data, at));
    SM_TRY_STATUS(put_hole(entry.size - at));
    return writer_.end_file();
  }

  // `at` is how much of the file is written.
  Status put_data(std::uint64_t size, const TarData& data, std::uint64_t& at) {
    if (data.offset < at || !fits(data.offset, data.bytes.size(), size)) {
      return fail(Code::kCorrupt, "its data lies outside of the file");
    }
    SM_TRY_STATUS(put_hole(data.offset - at));
    SM_TRY_STATUS(writer_.append(data.bytes));
    at = data.offset + data.bytes.size();
    return {};
  }

  Status put_hole(std::uint64_t size) {
    while (size > 0) {
      SM_TRY_STATUS(check_stop());
      const auto part = std::min<std::uint64_t>(size, kHolePart);
      SM_TRY_STATUS(writer_.append_zeros(part));
      size -= part;
    }
    return {};
  }

  Status check_stop() const {
    if (!options_.stop.stop_requested()) return {};
    return fail(Code::kGone, "converting the image was cancelled");
  }

  SquashfsWriter& writer_;
  const ConvertOptions& options_;
  std::uint64_t file_bytes_ = 0;
};

// A damaged blob usually shows first as bad compression or a bad tar stream. Reading on to the end
// finds out, and then the digest is the better explanation.
Error explain(Error error, LayerInput& input) {
  if (error.code() == Code::kCorrupt) {
    auto rest = drain(input.stream);
    if (!rest && rest.error().code() == Code::kCorrupt) error = std::move(rest).error();
  }
  return std::move(error).with(input.name);
}

}  // namespace

Result<ConvertResult> convert_layers(std::span<LayerInput> layers, int fd,
                                     const ConvertOptions& options) {
  auto writer = SM_TRY(SquashfsWriter::create(fd, options.squashfs));
  Converter converter(*writer, options);
  LayerTree merged(options.tree);
  bool first = true;
  for (auto& input : layers) {
    auto tree = converter.read_layer(input);
    if (!tree) return fail(explain(std::move(tree).error(), input));
    if (std::exchange(first, false)) {
      merged = *std::move(tree);
      continue;
    }
    auto laid = merged.merge(*std::move(tree));
    if (!laid) return fail(std::move(laid).error().with(input.name));
  }
  merged.settle(options.position);
  ConvertResult result;
  result.hides_lower_layers = merged.node(merged.root()).opaque;
  result.notes = merged.notes();
  result.image_size = SM_TRY(writer->finish(merged));
  return result;
}

}  // namespace sm
