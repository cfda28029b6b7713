#include "base/json.h"

#include <gtest/gtest.h>

namespace sm {
namespace {

TEST(ParseJson, gives_the_document) {
  EXPECT_EQ(parse_json(R"({"a":[1]})", "t").value()["a"][0], 1);
}

TEST(ParseJson, names_the_input_when_it_is_not_json) {
  for (const char* text : {"", "{", "{}x", "\xff", "nul", "[1,]"}) {
    const auto r = parse_json(text, "manifest");
    ASSERT_FALSE(r) << text;
    EXPECT_EQ(r.error().code(), Code::kCorrupt);
    EXPECT_EQ(r.error().cause(), "manifest: not valid JSON");
  }
}

TEST(ParseJson, refuses_what_is_too_long_or_too_deep) {
  EXPECT_EQ(parse_json("[1,2]", "t", {.bytes = 4}).error().code(), Code::kLimit);
  EXPECT_TRUE(parse_json("[[1]]", "t", {.depth = 2}));
  EXPECT_EQ(parse_json("[[[1]]]", "t", {.depth = 2}).error().code(), Code::kLimit);
  EXPECT_EQ(parse_json(std::string(1 << 20, '['), "t").error().code(), Code::kLimit);
  EXPECT_TRUE(parse_json(R"(["[[[[\"[[["])", "t", {.depth = 1}));
}

TEST(DumpJson, writes_one_line_or_indents) {
  const nlohmann::json document = {{"a", {1, 2}}, {"b", "\n"}};
  EXPECT_EQ(dump_json(document), R"({"a":[1,2],"b":"\n"})");
  EXPECT_EQ(dump_json({{"a", 1}}, 1), "{\n \"a\": 1\n}");
}

TEST(DumpJson, replaces_what_is_not_utf8) {
  EXPECT_EQ(dump_json({{"a", "x\xffy"}}), "{\"a\":\"x\xEF\xBF\xBDy\"}");
}

}  // namespace
}  // namespace sm
