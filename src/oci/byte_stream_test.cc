// Verifying and unpacking streams.
#include "oci/byte_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "oci/testing/image_builder.h"
#include "oci/testing/text_stream.h"

namespace sm {
namespace {

using testing::gzip;
using ::testing::HasSubstr;
using testing::text_stream;
using testing::zstd;

constexpr std::uint64_t kPlenty = 1U << 30U;

Result<std::string> unpack(const std::string& packed, Compression compression,
                           std::uint64_t limit = kPlenty, std::size_t chunk = 1000) {
  auto stream = decompressed_stream(text_stream(packed, chunk), compression, limit);
  if (!stream) return fail(std::move(stream).error());
  return read_stream(**stream, kPlenty, "it");
}

std::string sample() {
  std::string out;
  for (int i = 0; i < 50'000; ++i) out += std::to_string(i * 7919 % 10007) + ' ';
  return out;
}

TEST(DecompressTest, whatever_was_packed_comes_out) {
  for (const auto& text :
       {std::string(), std::string("x"), sample(), std::string(1U << 20U, '\0')}) {
    for (const std::size_t chunk : {std::size_t{1}, std::size_t{7}, std::size_t{100'000}}) {
      if (chunk == 1 && text.size() > 1000) continue;
      EXPECT_EQ(*unpack(gzip(text), Compression::kGzip, kPlenty, chunk), text);
      EXPECT_EQ(*unpack(zstd(text), Compression::kZstd, kPlenty, chunk), text);
      EXPECT_EQ(*unpack(text, Compression::kNone, kPlenty, chunk), text);
    }
  }
}

TEST(DecompressTest, members_and_frames_follow_one_another) {
  EXPECT_EQ(*unpack(gzip("one ") + gzip("") + gzip("two"), Compression::kGzip), "one two");
  const std::string skippable("\x50\x2A\x4D\x18\x04\x00\x00\x00skip", 12);
  EXPECT_EQ(*unpack(zstd("one ") + skippable + zstd("two") + skippable, Compression::kZstd),
            "one two");
}

TEST(DecompressTest, truncation_is_corrupt_at_every_byte) {
  const auto text = sample().substr(0, 2000);
  for (const auto compression : {Compression::kGzip, Compression::kZstd}) {
    const auto packed = testing::pack(text, compression);
    for (std::size_t size = 0; size < packed.size(); ++size) {
      const auto result = unpack(packed.substr(0, size), compression);
      ASSERT_FALSE(result.has_value()) << size;
      ASSERT_EQ(result.error().code(), Code::kCorrupt);
    }
  }
}

TEST(DecompressTest, damage_and_wrong_types_are_corrupt) {
  const auto text = sample();
  for (const auto compression : {Compression::kGzip, Compression::kZstd}) {
    EXPECT_EQ(unpack(text, compression).error().code(), Code::kCorrupt);
    EXPECT_EQ(unpack(testing::pack("a", compression) + "garbage", compression).error().code(),
              Code::kCorrupt);
  }
  auto damaged = gzip(text);
  damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 0x55);
  EXPECT_EQ(unpack(damaged, Compression::kGzip).error().code(), Code::kCorrupt);
}

TEST(DecompressTest, bombs_stop_at_the_limit) {
  const std::string zeros(10U << 20U, '\0');
  for (const auto compression : {Compression::kGzip, Compression::kZstd, Compression::kNone}) {
    EXPECT_EQ(
        unpack(testing::pack(zeros, compression), compression, zeros.size() - 1).error().code(),
        Code::kLimit);
    EXPECT_TRUE(unpack(testing::pack(zeros, compression), compression, zeros.size()).has_value());
  }
}

TEST(DecompressTest, huge_zstd_windows_are_refused) {
  // Magic, descriptor without single segment, window descriptor for 2^31 bytes, an empty last
  // block.
  const std::string frame("\x28\xB5\x2F\xFD\x00\xA8\x01\x00\x00", 9);
  const auto result = unpack(frame, Compression::kZstd);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code(), Code::kLimit);
  EXPECT_THAT(result.error().cause(), HasSubstr("128 MiB"));
}

TEST(VerifiedStreamTest, verdict_comes_at_the_end_and_stays) {
  const std::string text = "some bytes";
  const auto digest = Hasher::of(as_byte_span(text));
  auto good = verified_stream(text_stream(text), digest, text.size(), "it");
  EXPECT_EQ(*read_stream(*good, kPlenty, "it"), text);
  EXPECT_TRUE(drain(*good).has_value());

  auto other = verified_stream(text_stream("other byte"), digest, text.size(), "it");
  EXPECT_THAT(drain(*other).error().cause(), HasSubstr("does not match its digest"));
  EXPECT_THAT(drain(*other).error().cause(), HasSubstr("does not match its digest"));

  auto longer = verified_stream(text_stream(text + "x"), digest, text.size(), "it");
  EXPECT_THAT(drain(*longer).error().cause(), HasSubstr("more than 10 bytes"));
  auto shorter = verified_stream(text_stream("some"), digest, text.size(), "it");
  EXPECT_THAT(drain(*shorter).error().cause(), HasSubstr("only 4 bytes"));
}

TEST(SniffTest, known_beginnings_are_told_apart) {
  const auto sniff = [](const std::string& text) {
    auto result = sniff_compression(text_stream(text, 1));
    EXPECT_TRUE(result.has_value());
    EXPECT_EQ(*read_stream(*result->second, kPlenty, "it"), text);
    return result->first;
  };
  EXPECT_EQ(sniff(gzip("x")), Compression::kGzip);
  EXPECT_EQ(sniff(zstd("x")), Compression::kZstd);
  EXPECT_EQ(sniff("plain"), Compression::kNone);
  EXPECT_EQ(sniff(""), Compression::kNone);
  EXPECT_EQ(sniff("\x28\xB5"), Compression::kNone);
}

TEST(ReadStreamTest, limit_is_exact) {
  EXPECT_EQ(*read_stream(*text_stream("12345"), 5, "it"), "12345");
  EXPECT_EQ(read_stream(*text_stream("123456"), 5, "it").error().code(), Code::kLimit);
}

}  // namespace
}  // namespace sm
