#include "base/wipe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

namespace sm {
namespace {

TEST(Wipe, ClearsBytes) {
  std::array<std::byte, 100> bytes;
  bytes.fill(std::byte{7});
  wipe(bytes);
  EXPECT_TRUE(
      std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; }));
}

TEST(Wipe, ClearsTheWholeCapacityOfAString) {
  std::string text(1000, 'x');
  text.resize(10);
  const char* at = text.data();
  wipe(text);
  EXPECT_TRUE(text.empty());
  ASSERT_EQ(text.data(), at);
  EXPECT_TRUE(std::all_of(at, at + text.capacity(), [](char c) { return c == '\0'; }));
}

TEST(Wipe, ClearsWords) {
  std::vector<std::string> words = {"A=1", std::string(100, 'x')};
  wipe(words);
  EXPECT_TRUE(words.empty());
}

}  // namespace
}  // namespace sm
