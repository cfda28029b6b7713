#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <random>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace sm {
namespace {

TEST(Crc32c, GivesTheSumsOfTheSpecification) {
  // RFC 3720, B.4, and the usual check value.
  EXPECT_EQ(crc32c({}), 0u);
  EXPECT_EQ(crc32c(as_byte_span("123456789")), 0xE3069283u);
  EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0})), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0xFF})), 0x62A8AB43u);
  std::vector<std::byte> ascending(32);
  for (std::size_t i = 0; i < ascending.size(); ++i) ascending[i] = static_cast<std::byte>(i);
  EXPECT_EQ(crc32c(ascending), 0x46DD794Eu);
}

TEST(Crc32c, InstructionAndTablesAgree) {
  std::mt19937 random(1);
  std::vector<std::byte> bytes(1000);
  for (auto& b : bytes) b = static_cast<std::byte>(random());
  const std::span<const std::byte> all(bytes);
  for (std::size_t size = 0; size < all.size(); ++size) {
    for (std::size_t start = 0; start < 9 && start <= size; ++start) {
      const auto part = all.subspan(start, size - start);
      ASSERT_EQ(crc32c(part, 7), crc32c_portable(part, 7)) << start << "+" << part.size();
    }
  }
}

TEST(Crc32c, GoesOnWhereItStopped) {
  const auto text = as_byte_span("the sum of two parts is the sum of the whole");
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    EXPECT_EQ(crc32c(text.subspan(cut), crc32c(text.first(cut))), crc32c(text));
  }
}

}  // namespace
}  // namespace sm
