// WWW-Authenticate.
#include "oci/registry/challenge.h"

#include <gtest/gtest.h>

namespace sm {
namespace {

TEST(ChallengeTest, bearer_with_quoted_parameters) {
  const auto all = parse_challenges(
      R"(Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push")");
  ASSERT_TRUE(all.has_value());
  ASSERT_EQ(all->size(), 1U);
  EXPECT_EQ((*all)[0].scheme, "bearer");
  EXPECT_EQ((*all)[0].param("realm"), "https://auth.example/token");
  EXPECT_EQ((*all)[0].param("scope"), "repository:a/b:pull,push");
  EXPECT_EQ((*all)[0].param("none"), "");
}

TEST(ChallengeTest, several_challenges_in_one_value) {
  const auto all =
      parse_challenges(R"(Negotiate, Basic realm="a \"b\"" , ,Digest x=1, Y="2",NTLM abc==)");
  ASSERT_TRUE(all.has_value()) << all.error().text();
  ASSERT_EQ(all->size(), 4U);
  EXPECT_EQ((*all)[0].scheme, "negotiate");
  EXPECT_EQ((*all)[1].param("realm"), "a \"b\"");
  EXPECT_EQ((*all)[2].param("y"), "2");
  EXPECT_EQ((*all)[3].scheme, "ntlm");
}

TEST(ChallengeTest, nonsense_is_refused) {
  for (const auto* text : {"", " ", ",,", "=", "Bearer realm=\"open", "Bearer realm=\"a\" b",
                           "Basic a=1,a=2", "Bearer realm=\"\x01\"", "\"x\"", "Bearer a=\"\\"}) {
    EXPECT_FALSE(parse_challenges(text).has_value()) << text;
  }
  EXPECT_EQ(parse_challenges(std::string(20000, 'a')).error().code(), Code::kLimit);
  std::string many;
  for (int i = 0; i < 17; ++i) many += "x, ";
  EXPECT_EQ(parse_challenges(many).error().code(), Code::kLimit);
  std::string params = "Bearer p=1";
  for (int i = 0; i < 40; ++i) params += ",p" + std::to_string(i) + "=1";
  EXPECT_EQ(parse_challenges(params).error().code(), Code::kLimit);
}

}  // namespace
}  // namespace sm
