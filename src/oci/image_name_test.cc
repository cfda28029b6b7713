// Names of images.
#include "oci/image_name.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sm {
namespace {

const std::string kHex(64, 'a');

TEST(ImageNameTest, short_forms_are_filled_in) {
  const std::pair<const char*, const char*> cases[] = {
      {"nginx", "docker.io/library/nginx:latest"},
      {"nginx:1.27", "docker.io/library/nginx:1.27"},
      {"user/app", "docker.io/user/app:latest"},
      {"docker.io/nginx", "docker.io/library/nginx:latest"},
      {"index.docker.io/library/nginx", "docker.io/library/nginx:latest"},
      {"localhost/app", "localhost/app:latest"},
      {"host:5000/a/b/c:v1", "host:5000/a/b/c:v1"},
      {"Registry.Example.COM/app", "registry.example.com/app:latest"},
      {"[::1]:5000/app", "[::1]:5000/app:latest"},
      {"a__b/c-d--e.f_g:T_1.x-", "docker.io/a__b/c-d--e.f_g:T_1.x-"},
  };
  for (const auto& [text, full] : cases) {
    const auto name = parse_image_name(text);
    ASSERT_TRUE(name.has_value()) << text << ": " << name.error().text();
    EXPECT_EQ(name->text(), full);
    EXPECT_EQ(parse_image_name(name->text())->text(), full) << "the full form means itself";
  }
}

TEST(ImageNameTest, a_digest_says_it_all) {
  const auto name = parse_image_name("host:5000/path:v1@sha256:" + kHex);
  ASSERT_TRUE(name.has_value());
  EXPECT_EQ(name->text(), "host:5000/path@sha256:" + kHex);
  EXPECT_EQ(name->reference(), "sha256:" + kHex);
  EXPECT_EQ(name->tag, "");
}

TEST(ImageNameTest, what_is_no_name_is_refused_with_its_reason) {
  for (const std::string& text : {std::string(),
                                  std::string("Nginx"),
                                  std::string("a//b"),
                                  std::string("/a"),
                                  std::string("a/"),
                                  std::string("a:"),
                                  std::string("a:-x"),
                                  std::string("a b"),
                                  std::string("a..b"),
                                  std::string("a___b"),
                                  std::string("-a"),
                                  std::string("host:port/a"),
                                  std::string("-host.x/a"),
                                  std::string("a@sha256:12"),
                                  std::string("a@md5:00"),
                                  "a:" + std::string(129, 't'),
                                  std::string(256, 'r'),
                                  std::string("docker://busybox"),
                                  std::string("a\0b", 3),
                                  std::string("../a"),
                                  std::string("host:5000/..:x"),
                                  std::string("[::1/a"),
                                  std::string("hOst/a/b:tag")}) {
    const auto name = parse_image_name(text);
    ASSERT_FALSE(name.has_value()) << text;
    EXPECT_EQ(name.error().code(), Code::kInvalidArgument);
    EXPECT_FALSE(name.error().remedy().empty());
  }
}

TEST(ImageNameTest, the_full_form_of_a_long_name_is_a_name) {
  const auto longest = parse_image_name(std::string(247, 'a'));
  ASSERT_TRUE(longest);
  EXPECT_EQ(parse_image_name(longest->text())->text(), longest->text());
  EXPECT_FALSE(parse_image_name(std::string(248, 'a'))) << "255 with library/";
  EXPECT_TRUE(parse_image_name("host:1/" + std::string(255, 'a')));
}

TEST(ImageNameTest, familiar_form) {
  EXPECT_EQ(familiar_repository("docker.io/library/nginx"), "nginx");
  EXPECT_EQ(familiar_repository("docker.io/user/app"), "user/app");
  EXPECT_EQ(familiar_repository("localhost:5000/library/app"), "localhost:5000/library/app");
}

}  // namespace
}  // namespace sm
