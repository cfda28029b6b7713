#include "vmm/virtio/buffers.h"

#include <gtest/gtest.h>

#include <numeric>

#include "support/guest_arena.h"

namespace sm {
namespace {

using test::must;

class BuffersTest : public ::testing::Test {
 protected:
  // Bytes 0..59 cut into buffers of 1, 2, 7, 20 and 30 bytes that do not follow each other.
  BuffersTest() {
    std::vector<std::byte> bytes(60);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
    std::size_t from = 0;
    for (const std::uint32_t length : {1u, 2u, 7u, 20u, 30u}) {
      const GuestPhysAddr at(0x10000 + 0x1000 * buffers_.size());
      must(memory_->write(at, std::span(bytes).subspan(from, length)));
      buffers_.push_back({at, length});
      from += length;
    }
  }
  std::unique_ptr<GuestMemory> memory_ = must(GuestMemory::create(1 << 20));
  std::vector<GuestBuffer> buffers_;
};

TEST_F(BuffersTest, total_length_cannot_wrap) {
  const std::vector<GuestBuffer> many(4096, GuestBuffer{GuestPhysAddr(0), 0xffff'ffff});
  EXPECT_EQ(total_length(many), 4096ull * 0xffff'ffff);
  EXPECT_EQ(total_length({}), 0u);
}

TEST_F(BuffersTest, reader_crosses_borders_for_every_size) {
  for (std::size_t step = 1; step <= 60; ++step) {
    BufferReader reader(*memory_, buffers_);
    std::vector<std::byte> all;
    while (reader.remaining() != 0) {
      std::vector<std::byte> piece(std::min<std::uint64_t>(step, reader.remaining()));
      must(reader.read(piece));
      all.insert(all.end(), piece.begin(), piece.end());
    }
    ASSERT_EQ(all.size(), 60u);
    for (std::size_t i = 0; i < 60; ++i) ASSERT_EQ(all[i], static_cast<std::byte>(i));
  }
}

TEST_F(BuffersTest, reader_too_much_fails_and_consumes_nothing) {
  BufferReader reader(*memory_, buffers_);
  std::vector<std::byte> big(61);
  std::vector<iovec> iovecs;
  EXPECT_FALSE(reader.read(big));
  EXPECT_FALSE(reader.skip(61));
  EXPECT_FALSE(reader.take_iovecs(61, iovecs));
  EXPECT_TRUE(iovecs.empty());
  EXPECT_EQ(reader.remaining(), 60u);
  must(reader.skip(60));
  EXPECT_FALSE(reader.read_object<std::uint8_t>());
  EXPECT_TRUE(reader.skip(0));
}

TEST_F(BuffersTest, reader_object_after_skip) {
  BufferReader reader(*memory_, buffers_);
  must(reader.skip(2));
  EXPECT_EQ(must(reader.read_object<std::uint32_t>()), 0x05040302u);
}

TEST_F(BuffersTest, reader_iovecs_start_in_the_middle) {
  BufferReader reader(*memory_, buffers_);
  std::vector<iovec> iovecs;
  must(reader.skip(5));
  must(reader.take_iovecs(30, iovecs));
  ASSERT_EQ(iovecs.size(), 3u);
  EXPECT_EQ(iovecs[0].iov_len, 5u);
  EXPECT_EQ(iovecs[1].iov_len, 20u);
  EXPECT_EQ(iovecs[2].iov_len, 5u);
  EXPECT_EQ(*static_cast<std::byte*>(iovecs[0].iov_base), std::byte{5});
  EXPECT_EQ(*static_cast<std::byte*>(iovecs[2].iov_base), std::byte{30});
  EXPECT_EQ(must(reader.read_object<std::uint8_t>()), 35);
}

TEST_F(BuffersTest, writer_crosses_borders_and_counts) {
  BufferWriter writer(*memory_, buffers_);
  const std::vector<std::byte> ones(9, std::byte{0xff});
  must(writer.write(ones));
  EXPECT_EQ(writer.written(), 9u);
  must(writer.write_object(std::uint16_t{0xaabb}));
  EXPECT_EQ(writer.remaining(), 49u);
  BufferReader reader(*memory_, buffers_);
  must(reader.skip(8));
  EXPECT_EQ(must(reader.read_object<std::uint32_t>()), 0x0baabbffu);
}

TEST_F(BuffersTest, writer_too_much_fails_and_writes_nothing) {
  BufferWriter writer(*memory_, buffers_);
  std::vector<iovec> iovecs;
  EXPECT_FALSE(writer.write(std::vector<std::byte>(61, std::byte{0xee})));
  EXPECT_FALSE(writer.take_iovecs(61, iovecs));
  EXPECT_EQ(writer.written(), 0u);
  EXPECT_EQ(must(BufferReader(*memory_, buffers_).read_object<std::uint8_t>()), 0);
}

TEST_F(BuffersTest, empty_list_reads_and_writes_nothing) {
  BufferReader reader(*memory_, {});
  BufferWriter writer(*memory_, {});
  EXPECT_TRUE(reader.read({}));
  EXPECT_TRUE(writer.write({}));
  EXPECT_FALSE(reader.skip(1));
  EXPECT_FALSE(writer.write_object(std::uint8_t{1}));
}

}  // namespace
}  // namespace sm
