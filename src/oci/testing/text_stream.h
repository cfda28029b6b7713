// A ByteStream over a text, in pieces of a chosen size. For tests.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "oci/byte_stream.h"

namespace sm::testing {

class TextStream final : public ByteStream {
 public:
  explicit TextStream(std::string text, std::size_t chunk = 1U << 20U)
      : text_(std::move(text)), chunk_(chunk) {}
  Result<std::size_t> read(std::span<std::byte> out) override {
    const auto count = std::min({out.size(), text_.size() - at_, chunk_});
    if (count > 0) std::memcpy(out.data(), text_.data() + at_, count);
    at_ += count;
    return count;
  }

 private:
  std::string text_;
  std::size_t chunk_;
  std::size_t at_ = 0;
};

inline ByteStreamPtr text_stream(std::string text, std::size_t chunk = 1U << 20U) {
  return std::make_unique<TextStream>(std::move(text), chunk);
}

}  // namespace sm::testing
