#include "vmm/virtio/vsock/byte_ring.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace sm {
namespace {

void append(ByteRing& ring, std::string_view text) {
  EXPECT_TRUE(ring.append(text.size(), [&](std::span<std::byte> to) {
    std::memcpy(to.data(), text.data(), to.size());
    text.remove_prefix(to.size());
    return true;
  }));
}

std::string content(const ByteRing& ring) {
  std::string out;
  for (const iovec& piece : ring.pieces()) {
    out.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
  }
  return out;
}

TEST(ByteRing, keeps_order_across_the_edge) {
  ByteRing ring(8);
  append(ring, "abcdef");
  ring.drop(4);
  append(ring, "ghijkl");
  EXPECT_EQ(content(ring), "efghijkl");
  EXPECT_EQ(ring.room(), 0u);
  EXPECT_NE(ring.pieces()[1].iov_len, 0u);
}

TEST(ByteRing, grows_to_its_limit_and_forgets_its_memory_when_empty) {
  ByteRing ring(100'000);
  append(ring, std::string(50'000, 'a'));
  append(ring, std::string(50'000, 'b'));
  EXPECT_EQ(content(ring), std::string(50'000, 'a') + std::string(50'000, 'b'));
  ring.drop(100'000);
  EXPECT_TRUE(ring.empty());
  EXPECT_EQ(ring.pieces()[0].iov_base, nullptr);
}

TEST(ByteRing, fill_that_fails_appends_nothing) {
  ByteRing ring(16);
  append(ring, "xy");
  EXPECT_FALSE(ring.append(4, [](std::span<std::byte>) { return false; }));
  EXPECT_EQ(content(ring), "xy");
}

TEST(ByteRing, random_appends_and_drops_match_a_string) {
  std::mt19937 random(7);
  ByteRing ring(10'000);
  std::string model;
  for (int i = 0; i < 20'000; ++i) {
    const std::size_t n = random() % 3000;
    if (random() % 2 == 0 && n <= ring.room()) {
      const std::string text(n, static_cast<char>('a' + i % 26));
      append(ring, text);
      model += text;
    } else {
      const std::size_t drop = std::min(n, model.size());
      ring.drop(drop);
      model.erase(0, drop);
    }
    ASSERT_EQ(ring.size(), model.size());
    if (i % 100 == 0) {
      ASSERT_EQ(content(ring), model);
    }
  }
  EXPECT_EQ(content(ring), model);
}

}  // namespace
}  // namespace sm
