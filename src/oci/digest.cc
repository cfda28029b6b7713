// Digest text form and hashing through OpenSSL's EVP interface.
#include "oci/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "oci/text.h"

namespace sm {
namespace {

struct AlgorithmRow {
  std::string_view name;
  HashAlgorithm algorithm;
  std::size_t hex_digits;
};
constexpr std::array kAlgorithms = {
    AlgorithmRow{"sha256", HashAlgorithm::kSha256, 64},
    AlgorithmRow{"sha512", HashAlgorithm::kSha512, 128},
};

bool is_lower_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

}  // namespace

Result<Digest> Digest::parse(std::string_view text) {
  const auto colon = text.find(':');
  if (colon == std::string_view::npos) {
    return fail(Code::kCorrupt, "\"" + printable(text) + "\" is not a digest");
  }
  const auto name = text.substr(0, colon);
  const auto hex = text.substr(colon + 1);
  for (const auto& row : kAlgorithms) {
    if (row.name != name) continue;
    if (hex.size() != row.hex_digits || !std::all_of(hex.begin(), hex.end(), is_lower_hex)) {
      return fail(Code::kCorrupt, "\"" + printable(text) + "\" is not a digest");
    }
    return Digest(row.algorithm, std::string(hex));
  }
  return fail(Code::kUnsupported,
              "the digest algorithm of \"" + printable(text) + "\" is not supported",
              "use an image with sha256 or sha512 digests");
}

std::string_view Digest::algorithm_name() const {
  return algorithm_ == HashAlgorithm::kSha256 ? "sha256" : "sha512";
}

std::string Digest::text() const { return std::string(algorithm_name()) + ":" + hex_; }

void Hasher::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

Hasher::Hasher(HashAlgorithm algorithm) : algorithm_(algorithm), context_(EVP_MD_CTX_new()) {
  SM_CHECK(context_ != nullptr);
  const EVP_MD* md = algorithm == HashAlgorithm::kSha256 ? EVP_sha256() : EVP_sha512();
  SM_CHECK(EVP_DigestInit_ex(context_.get(), md, nullptr) == 1);
}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::update(std::span<const std::byte> bytes) {
  SM_CHECK(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
}

Digest Hasher::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> raw{};
  unsigned int length = 0;
  SM_CHECK(EVP_DigestFinal_ex(context_.get(), raw.data(), &length) == 1);
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  hex.reserve(length * 2U);
  for (unsigned int i = 0; i < length; ++i) {
    hex.push_back(kDigits[raw[i] >> 4U]);
    hex.push_back(kDigits[raw[i] & 15U]);
  }
  return Digest(algorithm_, std::move(hex));
}

Digest Hasher::of(std::span<const std::byte> bytes, HashAlgorithm algorithm) {
  Hasher hasher(algorithm);
  hasher.update(bytes);
  return hasher.finish();
}

}  // namespace sm
