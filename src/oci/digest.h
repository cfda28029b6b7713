// Digest: the validated name of a blob (algorithm and lower-case hex), and the hasher that computes
// one. A Digest can be put into a path without further checks. Hasher: one thread at a time.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

struct evp_md_ctx_st;

namespace sm {

enum class HashAlgorithm : std::uint8_t { kSha256, kSha512 };

class Digest {
 public:
  // "sha256:" or "sha512:" and the full number of lower-case hex digits; nothing else.
  static Result<Digest> parse(std::string_view text);

  HashAlgorithm algorithm() const { return algorithm_; }
  // "sha256" or "sha512".
  std::string_view algorithm_name() const;
  const std::string& hex() const { return hex_; }
  // "sha256:0123...".
  std::string text() const;
  // The first twelve digits, for people.
  std::string short_text() const { return hex_.substr(0, 12); }

  auto operator<=>(const Digest&) const = default;

 private:
  friend class Hasher;
  Digest(HashAlgorithm algorithm, std::string hex) : algorithm_(algorithm), hex_(std::move(hex)) {}

  HashAlgorithm algorithm_;
  std::string hex_;
};

class Hasher {
 public:
  explicit Hasher(HashAlgorithm algorithm);
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  void update(std::span<const std::byte> bytes);
  // The digest of everything so far; the hasher is used up.
  Digest finish();

  static Digest of(std::span<const std::byte> bytes,
                   HashAlgorithm algorithm = HashAlgorithm::kSha256);

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  HashAlgorithm algorithm_;
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace sm
