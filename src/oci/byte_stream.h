// ByteStream: a source of bytes that is read once from front to back. One thread at a time; streams
// of the same image may be read by several threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/digest.h"
#include "oci/manifest.h"

namespace sm {

class ByteStream {
 public:
  virtual ~ByteStream() = default;
  // Fills the front of `out` (not empty) and returns how much; 0 is the end of the stream.
  virtual Result<std::size_t> read(std::span<std::byte> out) = 0;
};

using ByteStreamPtr = std::unique_ptr<ByteStream>;

// A stretch of an open file; several streams may share the descriptor. A file that ends before the
// stretch is Code::kCorrupt.
class FileStream final : public ByteStream {
 public:
  struct Range {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
  };
  // `name` names the file in errors.
  FileStream(std::shared_ptr<const UniqueFd> fd, Range range, std::string name)
      : fd_(std::move(fd)), range_(range), name_(std::move(name)) {}

  Result<std::size_t> read(std::span<std::byte> out) override;
  // Passes over at most `count` bytes and returns how many.
  std::uint64_t skip(std::uint64_t count);

 private:
  std::shared_ptr<const UniqueFd> fd_;
  Range range_;  // what is left
  std::string name_;
};

// Passes bytes through and fails at the end unless there were exactly `size` of them and they have
// the digest. `what` names the blob in errors.
ByteStreamPtr verified_stream(ByteStreamPtr inner, Digest digest, std::optional<std::uint64_t> size,
                              std::string what);

// The uncompressed bytes of a stream. gzip members and zstd frames may follow one another. Fails
// with Code::kLimit when the output grows beyond `limit`.
Result<ByteStreamPtr> decompressed_stream(ByteStreamPtr inner, Compression compression,
                                          std::uint64_t limit);

// Guesses the compression of a stream from its first bytes and gives the stream back whole. Only
// for formats that state no media type.
Result<std::pair<Compression, ByteStreamPtr>> sniff_compression(ByteStreamPtr inner);

// All bytes of a stream that has at most `limit`.
Result<std::string> read_stream(ByteStream& stream, std::uint64_t limit, std::string_view what);

// Reads to the end and throws the bytes away.
Status drain(ByteStream& stream);

}  // namespace sm
