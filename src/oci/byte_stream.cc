// File and verifying streams.
#include "oci/byte_stream.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>
#include <vector>

#include "oci/text.h"

namespace sm {
namespace {

class VerifiedStream final : public ByteStream {
 public:
  VerifiedStream(ByteStreamPtr inner, Digest digest, std::optional<std::uint64_t> size,
                 std::string what)
      : inner_(std::move(inner)),
        wanted_(std::move(digest)),
        size_(size),
        what_(std::move(what)),
        hasher_(wanted_.algorithm()) {}

  // The verdict, good or bad, stays the same however often one reads on.
  Result<std::size_t> read(std::span<std::byte> out) override {
    if (!verdict_) {
      auto got = read_checked(out);
      if (got && *got > 0) return got;
      verdict_ = std::move(got);
    }
    return *verdict_;
  }

 private:
  Result<std::size_t> read_checked(std::span<std::byte> out) {
    const auto got = SM_TRY(inner_->read(out));
    if (got == 0) return finish();
    seen_ += got;
    if (size_ && seen_ > *size_) return wrong_size("more than ");
    hasher_.update(out.first(got));
    return got;
  }
  Result<std::size_t> finish() {
    if (size_ && seen_ != *size_) return wrong_size("only ");
    const auto actual = hasher_.finish();
    if (actual != wanted_) {
      return fail(Code::kCorrupt, what_ + " does not match its digest: it has " + actual.text() +
                                      " instead of " + wanted_.text());
    }
    return std::size_t{0};
  }
  tl::unexpected<Error> wrong_size(std::string_view relation) const {
    return fail(Code::kCorrupt, what_ + " has " + std::string(relation) +
                                    std::to_string(std::min(seen_, *size_)) + " bytes; " +
                                    std::to_string(*size_) + " are stated");
  }

  ByteStreamPtr inner_;
  Digest wanted_;
  std::optional<std::uint64_t> size_;
  std::string what_;
  Hasher hasher_;
  std::uint64_t seen_ = 0;
  std::optional<Result<std::size_t>> verdict_;
};

}  // namespace

Result<std::size_t> FileStream::read(std::span<std::byte> out) {
  const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), range_.length));
  if (wanted == 0) return std::size_t{0};
  ssize_t got = 0;
  do {
    got = ::pread(fd_->get(), out.data(), wanted, static_cast<off_t>(range_.offset));
  } while (got < 0 && errno == EINTR);
  if (got < 0) return fail_errno("read " + printable(name_), errno);
  if (got == 0) return fail(Code::kCorrupt, printable(name_) + " ends early");
  const auto count = static_cast<std::size_t>(got);
  skip(count);
  return count;
}

std::uint64_t FileStream::skip(std::uint64_t count) {
  const auto passed = std::min(count, range_.length);
  range_.offset += passed;
  range_.length -= passed;
  return passed;
}

ByteStreamPtr verified_stream(ByteStreamPtr inner, Digest digest, std::optional<std::uint64_t> size,
                              std::string what) {
  return std::make_unique<VerifiedStream>(std::move(inner), std::move(digest), size,
                                          std::move(what));
}

Result<std::string> read_stream(ByteStream& stream, std::uint64_t limit, std::string_view what) {
  std::string out;
  std::vector<std::byte> buffer(64U << 10U);
  while (true) {
    const auto got = SM_TRY(stream.read(buffer));
    if (got == 0) return out;
    if (out.size() + got > limit) {
      return fail(Code::kLimit, std::string(what) + " is larger than the limit of " +
                                    std::to_string(limit) + " bytes");
    }
    out.append(reinterpret_cast<const char*>(buffer.data()), got);
  }
}

Status drain(ByteStream& stream) {
  std::vector<std::byte> buffer(256U << 10U);
  while (SM_TRY(stream.read(buffer)) != 0) {
  }
  return {};
}

}  // namespace sm
