// gzip and zstd streams with a bound on what they may grow to. Spec: RFC 1952, RFC 8878.
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "oci/byte_stream.h"

namespace sm {
namespace {

constexpr std::size_t kInputBuffer = 128U << 10U;

// What both decompressors share: the input buffer and the output limit.
class PackedInput {
 public:
  PackedInput(ByteStreamPtr inner, std::uint64_t limit)
      : inner_(std::move(inner)), buffer_(kInputBuffer), limit_(limit) {}

  // Unread input; empty only at the end of the stream.
  Result<std::span<const std::byte>> peek() {
    if (begin_ == end_ && !ended_) {
      end_ = SM_TRY(inner_->read(buffer_));
      begin_ = 0;
      ended_ = end_ == 0;
    }
    return std::span<const std::byte>(buffer_).subspan(begin_, end_ - begin_);
  }
  void consume(std::size_t count) { begin_ += count; }

  Result<std::size_t> deliver(std::size_t count) {
    produced_ += count;
    if (produced_ <= limit_) return count;
    return fail(Code::kLimit,
                "it unpacks to more than the limit of " + std::to_string(limit_) + " bytes");
  }

 private:
  ByteStreamPtr inner_;
  std::vector<std::byte> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool ended_ = false;
  std::uint64_t limit_;
  std::uint64_t produced_ = 0;
};

class PlainStream final : public ByteStream {
 public:
  PlainStream(ByteStreamPtr inner, std::uint64_t limit) : input_(std::move(inner), limit) {}
  Result<std::size_t> read(std::span<std::byte> out) override {
    const auto bytes = SM_TRY(input_.peek());
    const auto count = std::min(bytes.size(), out.size());
    if (count != 0) std::memcpy(out.data(), bytes.data(), count);
    input_.consume(count);
    return input_.deliver(count);
  }

 private:
  PackedInput input_;
};

class GzipStream final : public ByteStream {
 public:
  GzipStream(ByteStreamPtr inner, std::uint64_t limit) : input_(std::move(inner), limit) {
    // 15 bits of window, and 16 for "gzip wrapper only".
    SM_CHECK(inflateInit2(&zlib_, 15 + 16) == Z_OK);
  }
  ~GzipStream() override { inflateEnd(&zlib_); }
  GzipStream(const GzipStream&) = delete;
  GzipStream& operator=(const GzipStream&) = delete;

  Result<std::size_t> read(std::span<std::byte> out) override {
    while (true) {
      const auto bytes = SM_TRY(input_.peek());
      if (bytes.empty() && between_members_) return std::size_t{0};
      const auto produced = SM_TRY(inflate_some(bytes, out));
      if (produced > 0) return input_.deliver(produced);
      if (bytes.empty()) return fail(Code::kCorrupt, "its gzip stream ends early");
    }
  }

 private:
  Result<std::size_t> inflate_some(std::span<const std::byte> bytes, std::span<std::byte> out) {
    if (between_members_) {
      SM_CHECK(inflateReset(&zlib_) == Z_OK);
      between_members_ = false;
    }
    const auto room = std::min<std::size_t>(out.size(), 1U << 30U);
    // zlib's interface is older than const; it does not write to its input.
    zlib_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));
    zlib_.avail_in = static_cast<uInt>(bytes.size());
    zlib_.next_out = reinterpret_cast<Bytef*>(out.data());
    zlib_.avail_out = static_cast<uInt>(room);
    const int status = inflate(&zlib_, Z_NO_FLUSH);
    input_.consume(bytes.size() - zlib_.avail_in);
    if (status == Z_STREAM_END) {
      between_members_ = true;
    } else if (status != Z_OK && status != Z_BUF_ERROR) {
      return fail(Code::kCorrupt, "its gzip stream is damaged");
    }
    return room - zlib_.avail_out;
  }

  PackedInput input_;
  z_stream zlib_{};
  bool between_members_ = false;
};

class ZstdStream final : public ByteStream {
 public:
  ZstdStream(ByteStreamPtr inner, std::uint64_t limit)
      : input_(std::move(inner), limit), zstd_(ZSTD_createDStream()) {
    SM_CHECK(zstd_ != nullptr);
    // Limit: 128 MiB of window per stream, what the zstd tool accepts without being asked for more.
    SM_CHECK(ZSTD_isError(ZSTD_DCtx_setParameter(zstd_.get(), ZSTD_d_windowLogMax, 27)) == 0);
  }

  Result<std::size_t> read(std::span<std::byte> out) override {
    while (true) {
      const auto bytes = SM_TRY(input_.peek());
      if (bytes.empty() && at_frame_end_ && started_) return std::size_t{0};
      ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
      ZSTD_outBuffer to{out.data(), out.size(), 0};
      const std::size_t status = ZSTD_decompressStream(zstd_.get(), &to, &in);
      if (ZSTD_isError(status) != 0) return damaged(status);
      input_.consume(in.pos);
      started_ = true;
      at_frame_end_ = status == 0;
      if (to.pos > 0) return input_.deliver(to.pos);
      if (bytes.empty() && !at_frame_end_) {
        return fail(Code::kCorrupt, "its zstd stream ends early");
      }
    }
  }

 private:
  struct Free {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };
  static tl::unexpected<Error> damaged(std::size_t status) {
    const std::string_view name = ZSTD_getErrorName(status);
    if (name.find("too much memory") != std::string_view::npos) {
      return fail(Code::kLimit, "its zstd stream needs a window of more than 128 MiB");
    }
    return fail(Code::kCorrupt, "its zstd stream is damaged");
  }

  PackedInput input_;
  std::unique_ptr<ZSTD_DStream, Free> zstd_;
  bool at_frame_end_ = false;
  bool started_ = false;
};

// Gives back bytes that were read ahead, then the rest.
class PrefixedStream final : public ByteStream {
 public:
  PrefixedStream(std::vector<std::byte> prefix, ByteStreamPtr inner)
      : prefix_(std::move(prefix)), inner_(std::move(inner)) {}
  Result<std::size_t> read(std::span<std::byte> out) override {
    if (at_ == prefix_.size()) return inner_->read(out);
    const auto count = std::min(out.size(), prefix_.size() - at_);
    std::memcpy(out.data(), prefix_.data() + at_, count);
    at_ += count;
    return count;
  }

 private:
  std::vector<std::byte> prefix_;
  ByteStreamPtr inner_;
  std::size_t at_ = 0;
};

}  // namespace

Result<ByteStreamPtr> decompressed_stream(ByteStreamPtr inner, Compression compression,
                                          std::uint64_t limit) {
  switch (compression) {
    case Compression::kNone:
      return std::make_unique<PlainStream>(std::move(inner), limit);
    case Compression::kGzip:
      return std::make_unique<GzipStream>(std::move(inner), limit);
    case Compression::kZstd:
      return std::make_unique<ZstdStream>(std::move(inner), limit);
  }
  return fail(Code::kInternal, "unknown compression");
}

Result<std::pair<Compression, ByteStreamPtr>> sniff_compression(ByteStreamPtr inner) {
  std::vector<std::byte> head(4);
  std::size_t have = 0;
  while (have < head.size()) {
    const auto got = SM_TRY(inner->read(std::span(head).subspan(have)));
    if (got == 0) break;
    have += got;
  }
  head.resize(have);
  constexpr std::array kGzipMagic = {std::byte{0x1F}, std::byte{0x8B}};
  constexpr std::array kZstdMagic = {std::byte{0x28}, std::byte{0xB5}, std::byte{0x2F},
                                     std::byte{0xFD}};
  const auto starts_with = [&](std::span<const std::byte> magic) {
    return head.size() >= magic.size() && std::equal(magic.begin(), magic.end(), head.begin());
  };
  const auto compression = starts_with(kGzipMagic)   ? Compression::kGzip
                           : starts_with(kZstdMagic) ? Compression::kZstd
                                                     : Compression::kNone;
  return std::pair{compression, ByteStreamPtr(std::make_unique<PrefixedStream>(std::move(head),
                                                                               std::move(inner)))};
}

}  // namespace sm
