#include "base/bytes.h"

#include <gtest/gtest.h>

namespace sm {
namespace {

TEST(ByteReader, reads_back_what_the_writer_wrote) {
  ByteWriter w;
  w.put<std::uint8_t>(7);
  w.put<std::uint32_t>(0xdeadbeef);
  w.put_string("hello");
  const auto bytes = w.release();
  ByteReader r(bytes);
  EXPECT_EQ(r.take<std::uint8_t>(), 7);
  EXPECT_EQ(r.take<std::uint32_t>(), 0xdeadbeef);
  EXPECT_EQ(r.take_string(5), "hello");
  EXPECT_TRUE(r.at_end());
}

TEST(ByteReader, stays_failed_after_the_first_short_read) {
  const std::byte bytes[3] = {};
  ByteReader r(bytes);
  EXPECT_FALSE(r.take<std::uint32_t>());
  EXPECT_FALSE(r.take<std::uint8_t>());
  EXPECT_TRUE(r.failed());
  EXPECT_FALSE(r.at_end());
}

TEST(ByteReader, refuses_a_string_above_its_limit_or_beyond_the_end) {
  ByteWriter w;
  w.put_string("hello");
  const auto bytes = w.release();
  EXPECT_FALSE(ByteReader(bytes).take_string(4));
  EXPECT_FALSE(ByteReader(std::span(bytes).first(8)).take_string(100));
}

}  // namespace
}  // namespace sm
