// Escaping, digests and safe paths.
#include "oci/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "oci/digest.h"
#include "oci/safe_path.h"

namespace sm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(PrintableTest, plain_text_stays) {
  EXPECT_EQ(printable("usr/bin/gr\xC3\xBC\xC3\x9F\x65 1"), "usr/bin/gr\xC3\xBC\xC3\x9F\x65 1");
}

TEST(PrintableTest, controls_quotes_and_bad_bytes_are_escaped) {
  EXPECT_EQ(printable("a\x1B\n\x7F"), "a\\x1b\\x0a\\x7f");
  EXPECT_EQ(printable("\"\\"), "\\\"\\\\");
  EXPECT_EQ(printable("\xFF\xC3"), "\\xff\\xc3");
  EXPECT_EQ(printable("\xC2\x9B"), "\\xc2\\x9b");           // C1 control
  EXPECT_EQ(printable("\xE2\x80\xAE"), "\\xe2\\x80\\xae");  // right-to-left override
  EXPECT_EQ(printable("\xED\xA0\x80"), "\\xed\\xa0\\x80");  // surrogate
  EXPECT_EQ(printable("\xC0\xAF"), "\\xc0\\xaf");           // overlong
  EXPECT_EQ(printable(std::string_view("a\0b", 3)), "a\\x00b");
}

TEST(PrintableTest, long_text_is_cut) {
  EXPECT_EQ(printable(std::string(300, 'x'), 10), "xxxxxxxxxx...");
}

TEST(DigestTest, known_values) {
  EXPECT_EQ(Hasher::of(as_byte_span("abc")).text(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_THAT(Hasher::of(as_byte_span("abc"), HashAlgorithm::kSha512).text(),
              HasSubstr("sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea2"));
}

TEST(DigestTest, parse_accepts_only_the_exact_form) {
  const std::string hex(64, 'a');
  EXPECT_TRUE(Digest::parse("sha256:" + hex).has_value());
  EXPECT_TRUE(Digest::parse("sha512:" + hex + hex).has_value());
  for (const auto& bad :
       {"sha256:" + hex.substr(1), "sha256:" + hex + "a", hex, "sha256:" + std::string(64, 'A'),
        "sha256:../" + hex.substr(3), "sha512:" + hex, std::string("sha256:"), std::string()}) {
    auto digest = Digest::parse(bad);
    ASSERT_FALSE(digest.has_value()) << bad;
    EXPECT_EQ(digest.error().code(), Code::kCorrupt);
  }
  EXPECT_EQ(Digest::parse("md5:" + hex).error().code(), Code::kUnsupported);
}

TEST(SafePathTest, components_without_dots) {
  EXPECT_THAT(*safe_path("./a//b/./c/"), ElementsAre("a", "b", "c"));
  EXPECT_THAT(*safe_path("."), ElementsAre());
  EXPECT_THAT(*safe_path("./"), ElementsAre());
  EXPECT_THAT(*safe_path("...//..a"), ElementsAre("...", "..a"));
}

TEST(SafePathTest, escapes_are_refused) {
  for (const auto* bad : {"", "/", "/a", "..", "a/..", "../a", "a/../b", "./.."}) {
    EXPECT_FALSE(safe_path(bad).has_value()) << bad;
  }
  EXPECT_TRUE(safe_path(std::string(255, 'a')).has_value());
  EXPECT_FALSE(safe_path(std::string(256, 'a')).has_value());
}

}  // namespace
}  // namespace sm
