#include "cli/suggest.h"

#include <gtest/gtest.h>

namespace sm {
namespace {

TEST(Suggest, Distances) {
  EXPECT_EQ(edit_distance("", ""), 0U);
  EXPECT_EQ(edit_distance("run", "run"), 0U);
  EXPECT_EQ(edit_distance("rnu", "run"), 1U);  // swapped
  EXPECT_EQ(edit_distance("images", "image"), 1U);
  EXPECT_EQ(edit_distance("pul", "push"), 2U);
  EXPECT_EQ(edit_distance("", "abc"), 3U);
}

TEST(Suggest, TheNearestIsMeant) {
  const std::vector<std::string> known = {"run", "images", "image", "pull", "push", "history"};
  EXPECT_EQ(nearest_word("rnu", known), "run");
  EXPECT_EQ(nearest_word("imgaes", known), "images");
  EXPECT_EQ(nearest_word("hist", known), "history");
  EXPECT_EQ(nearest_word("zzz", known), "");
  EXPECT_EQ(nearest_word("x", known), "");
  EXPECT_EQ(nearest_word("", known), "");
  EXPECT_EQ(nearest_word(std::string(1'000'000, 'a'), known), "");
}

}  // namespace
}  // namespace sm
