#include "common/tar_format.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace sm::guest {
namespace {

// As a reader goes through them.
Result<TarHeader> decode(std::string bytes) {
  TarExtra extra;
  for (;;) {
    const auto block = as_byte_span(bytes).first<kTarBlock>();
    auto header = SM_TRY(decode_tar_header(block));
    if (!header) return fail(Code::kGone, "the end");
    bytes.erase(0, kTarBlock);
    if (header->type != kTarPax && header->type != kTarLongName) {
      extra.apply(*header);
      return *std::move(header);
    }
    SM_TRY_STATUS(extra.add(header->type, bytes.substr(0, header->size)));
    bytes.erase(0, (header->size + kTarBlock - 1) / kTarBlock * kTarBlock);
  }
}

TEST(TarFormat, WhatIsEncodedIsDecoded) {
  TarHeader h;
  h.mode = 07755;
  for (const std::size_t length : {1u, 100u, 101u, 255u, 4000u}) {
    for (const std::uint64_t number : {0ull, 2097151ull, 2097152ull, 4294967294ull}) {
      for (const std::int64_t mtime : {0ll, -5ll, 1ll << 33, 1ll << 40}) {
        h.name = std::string(length, 'n');
        h.link = std::string(length - 1, 'l');
        h.type = kTarSymlink;
        h.uid = number;
        h.gid = number;
        h.size = number * 10000;
        h.mtime = mtime;
        const auto got = decode(encode_tar_header(h));
        ASSERT_TRUE(got) << got.error().text();
        EXPECT_EQ(got->name, h.name);
        EXPECT_EQ(got->link, h.link);
        EXPECT_EQ(got->mode, h.mode);
        EXPECT_EQ(got->uid, h.uid);
        EXPECT_EQ(got->size, h.size);
        EXPECT_EQ(got->mtime, h.mtime);
        EXPECT_EQ(got->type, h.type);
      }
    }
  }
}

TEST(TarFormat, AChangedHeaderIsNoticed) {
  TarHeader h;
  h.name = "name";
  std::string block = encode_tar_header(h);
  ++block[0];
  EXPECT_EQ(decode(block).error().code(), Code::kCorrupt);
  EXPECT_EQ(decode(std::string(kTarBlock, '\0')).error().code(), Code::kGone);
}

TEST(TarFormat, ANameThatBeginsAsCompressedDataDoes) {
  TarHeader h;
  h.name = "BZhello";
  const auto got = decode(encode_tar_header(h));
  ASSERT_TRUE(got) << got.error().text();
  EXPECT_EQ(got->name, h.name);
}

TEST(TarFormat, MalformedRecordsAreRefused) {
  for (const char* text :
       {"x", "9", "9 ", "99 path=a\n", "9 path=ab\n", "8 path=a\n", "3 \n", "4 a\n", "-1 path=a\n",
        "99999999999999999999999 path=a\n", "10 size=x\n"}) {
    EXPECT_FALSE(TarExtra().add(kTarPax, text)) << text;
  }
  EXPECT_TRUE(TarExtra().add(kTarPax, "10 path=a\n"));
  EXPECT_TRUE(TarExtra().add(kTarPax, "15 mtime=1.500\n"));
  EXPECT_EQ(TarExtra().add(kTarPax, "22 GNU.sparse.major=1\n").error().code(), Code::kUnsupported);
}

TEST(TarFormat, AFileWhoseLongNameIsCutAtASlashIsAFile) {
  TarHeader h;
  h.name = std::string(99, 'a') + "/file";
  const auto got = decode(encode_tar_header(h));
  ASSERT_TRUE(got) << got.error().text();
  EXPECT_EQ(got->name, h.name);
  EXPECT_EQ(got->type, kTarFile);
  h.name = "old-folder/";
  EXPECT_EQ(decode(encode_tar_header(h))->type, kTarFolder);
}

TEST(TarFormat, GlobalValuesLast) {
  TarExtra extra;
  ASSERT_TRUE(extra.add(kTarPaxGlobal, "8 uid=7\n"));
  ASSERT_TRUE(extra.add(kTarPax, "8 uid=9\n"));
  TarHeader first, second;
  extra.apply(first);
  extra.apply(second);
  EXPECT_EQ(first.uid, 9u);
  EXPECT_EQ(second.uid, 7u);
}

}  // namespace
}  // namespace sm::guest
